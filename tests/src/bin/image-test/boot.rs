//! Boots alone, one machine at a time: for comparing images, for the other scenarios boot what they need.

use std::path::Path;
use std::time::Instant;

use lab::Result;
use lab::vm::Machine;
use lab::vm::drive::Birth;

use crate::evidence::booted;
use crate::report::Report;
use crate::site::{BIRTH, Kind, Site};

pub(crate) fn run(report: &mut Report, image: &Path) -> Result<()> {
    let site = Site::new("image-boot", 0)?;
    for (index, machine) in [Machine::Q35, Machine::Pc].into_iter().enumerate() {
        let kind = Kind { machine, distributor: "", birth: Birth { index, ..BIRTH } };
        let on = Instant::now();
        let [mut vm] = site.boot_all(image, &[kind])?;
        let outcome = booted(report, &site, &mut vm, &kind, on).and_then(|()| site.wait_session(report, &vm));
        site.explain(std::slice::from_mut(&mut vm), outcome)?;
        report.took(&format!("{}: power on to BGP session", vm.name()), on);
        vm.cut_power()?;
    }
    Ok(())
}
