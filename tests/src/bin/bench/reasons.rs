//! Why a target is missed where it is, as far as somebody has found out. The page shows a reason only beside a miss.

/// The beginning of a figure's name, and the reason.
const REASONS: [(&str, &str); 3] = [
    (
        "plug VIP v4, max",
        "moving a link between namespaces waits for the kernel's grace periods; the bare kernel steps alone reach the \
         target at their slowest.",
    ),
    (
        "register to route in the ToR's kernel, BIRD",
        "BIRD has the route 0.3 ms after AddPath, so the fdatasync that comes before any announcement, and the TLS \
         request before that, weigh as much as the whole floor. FRR's own 60 ms hide both. To announce before the disk \
         has it would mend the figure and break the promise that what is on the wire is what a restart finds.",
    ),
    (
        "PSS after",
        "the allocator's own size classes settle within the first thousands of requests; the next row shows whether it \
         goes on.",
    ),
];

/// The reason a figure misses its target.
pub(crate) fn reason(figure: &str) -> Option<&'static str> {
    REASONS.iter().find(|(name, _)| figure.starts_with(name)).map(|(_, reason)| *reason)
}
