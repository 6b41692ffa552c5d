//! What the process asks of the system before it holds a key: that its memory is never written to a file.

use rustix::process::{
    DumpableBehavior, Resource, Rlimit, dumpable_behavior, getrlimit, set_dumpable_behavior,
    setrlimit,
};

/// Turns core dumps off and keeps other processes of the same user from reading this one's memory. What
/// could not be done is said in the log, and the gateway serves all the same.
pub fn harden() {
    for (what, done) in [
        ("core dumps are off by the limit", no_core_by_limit()),
        ("memory can be neither dumped nor traced by others", no_core_by_process()),
    ] {
        match done {
            Ok(()) => tracing::info!("{what}"),
            Err(cause) => tracing::warn!(
                error = %cause,
                "not so: {what}; a crash may write keys and templates to a file: turn core dumps off \
                 for this service (LimitCORE=0, kernel.core_pattern)"
            ),
        }
    }
}

/// A test that looks at a gateway's system calls must be let: never in a release binary.
fn is_to_be_traced() -> bool {
    cfg!(feature = "test-support") && std::env::var_os("TULGA_TRACEABLE").is_some()
}

fn no_core_by_limit() -> Result<(), std::io::Error> {
    setrlimit(Resource::Core, Rlimit { current: Some(0), maximum: Some(0) })?;
    if getrlimit(Resource::Core).current == Some(0) {
        return Ok(());
    }
    Err(std::io::Error::other("the limit is another still"))
}

/// The limit alone is not asked where the kernel hands dumps to a program.
fn no_core_by_process() -> Result<(), std::io::Error> {
    if is_to_be_traced() {
        return Err(std::io::Error::other("a test asked for it"));
    }
    set_dumpable_behavior(DumpableBehavior::NotDumpable)?;
    if dumpable_behavior()? == DumpableBehavior::NotDumpable {
        return Ok(());
    }
    Err(std::io::Error::other("the process can be dumped still"))
}
