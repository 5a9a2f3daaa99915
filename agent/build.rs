//! Tells the agent of which commit it is and which compiler built it (`--version`, `amphora_build_info`).

use std::{env, process::Command};

fn main() {
    println!("cargo::rerun-if-changed=build.rs");
    let rustc = env::var_os("RUSTC").unwrap_or_else(|| "rustc".into());
    let said = Command::new(rustc).arg("--version").output();
    let text = said.map(|output| String::from_utf8_lossy(&output.stdout).into_owned()).unwrap_or_default();
    // "rustc 1.95.0 (59807616e 2026-04-14)"
    println!("cargo::rustc-env=AMPHORA_RUSTC={}", text.split_whitespace().nth(1).unwrap_or("unknown"));
    // Of the environment, as `make release` sets it: git is not asked here, for then every commit would build anew.
    println!("cargo::rerun-if-env-changed=AMPHORA_COMMIT");
    let commit = env::var("AMPHORA_COMMIT").unwrap_or_else(|_| "unknown".into());
    println!("cargo::rustc-env=AMPHORA_VERSION={} ({commit})", env!("CARGO_PKG_VERSION"));
    println!("cargo::rustc-env=AMPHORA_COMMIT={commit}");
}
