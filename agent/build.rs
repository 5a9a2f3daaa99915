//! Tells the agent which compiler built it (`amphora_build_info`).

use std::{env, process::Command};

fn main() {
    println!("cargo::rerun-if-changed=build.rs");
    let rustc = env::var_os("RUSTC").unwrap_or_else(|| "rustc".into());
    let said = Command::new(rustc).arg("--version").output();
    let text = said.map(|output| String::from_utf8_lossy(&output.stdout).into_owned()).unwrap_or_default();
    // "rustc 1.95.0 (59807616e 2026-04-14)"
    println!("cargo::rustc-env=AMPHORA_RUSTC={}", text.split_whitespace().nth(1).unwrap_or("unknown"));
}
