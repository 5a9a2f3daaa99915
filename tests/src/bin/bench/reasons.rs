//! Why a target is missed where it is, as far as somebody has found out. The page shows a reason only beside a miss.

/// The beginning of a figure's name, and the reason.
const REASONS: [(&str, &str); 4] = [
    ("plug VIP v4, max", GRACE_PERIODS),
    ("plug network v4, max", GRACE_PERIODS),
    (
        "register to route in the ToR's kernel, BIRD",
        "BIRD has the route 0.3 ms after AddPath, so the fdatasync that comes before any announcement, and the TLS \
         request before that, weigh as much as the whole floor. FRR's own 60 ms hide both. To announce before the disk \
         has it would mend the figure and break the promise that what is on the wire is what a restart finds.",
    ),
    (
        "PSS of agent and prometheus-proxy",
        "two thirds are pages of the program's own code and constants (smaps), and each kind of call touches more of \
         them; all heaps together are below 3 MiB.",
    ),
];

const GRACE_PERIODS: &str = "moving a link between namespaces waits for the kernel's grace periods; the bare kernel steps \
                             alone come near the target at their slowest.";

/// The reason a figure misses its target.
pub(crate) fn reason(figure: &str) -> Option<&'static str> {
    REASONS.iter().find(|(name, _)| figure.starts_with(name)).map(|(_, reason)| *reason)
}
