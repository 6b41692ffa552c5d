//! What a load came to, for people and for machines.

use std::collections::BTreeMap;
use std::fmt;
use std::time::Duration;

use serde::Serialize;

use super::gateway::Usage;
use super::load::{Arrivals, Load, Seen};

/// The figures of one load.
#[derive(Serialize)]
pub(super) struct Figures {
    clients: usize,
    /// Verifications a second that were to begin; none in a closed loop.
    offered_per_second: Option<u32>,
    seconds: f64,
    approved: usize,
    approved_per_second: f64,
    /// Whole verifications: challenge, capture, decision.
    whole_ms: Option<Spread>,
    /// `Verify` alone.
    verify_ms: Option<Spread>,
    /// Those that were not approved, by outcome or reason.
    others: BTreeMap<String, u64>,
    /// Seconds that terminals of a closed loop were told to wait, added up; in no other time of these.
    told_to_wait_s: Option<f64>,
    approved_late: u64,
    gateway: Option<GatewayFigures>,
    /// Mean number of processes that wanted to run in the last minute, the load included.
    load_average: Option<f64>,
}

/// Percentiles, in milliseconds.
#[derive(Serialize)]
struct Spread {
    p50: f64,
    p95: f64,
    p99: f64,
    max: f64,
}

#[derive(Serialize)]
struct GatewayFigures {
    resident_idle_mib: f64,
    resident_loaded_mib: f64,
    /// Time of processors for one approved verification, whatever else was answered; about, since the
    /// warm-up's share is taken to be that of its time.
    cpu_ms_each: Option<f64>,
}

impl Figures {
    #[expect(clippy::cast_precision_loss, reason = "counts far below 2^52")]
    pub fn new(load: &Load, seen: &Seen, idle: Option<Usage>, loaded: Option<Usage>) -> Self {
        let seconds = seen.elapsed.as_secs_f64();
        let approved = seen.approved.len();
        let mib = |bytes: u64| bytes as f64 / 1_048_576.0;
        let gateway = idle.zip(loaded).map(|(idle, loaded)| GatewayFigures {
            resident_idle_mib: mib(idle.resident),
            resident_loaded_mib: mib(loaded.resident),
            // What warming up took is in it too, and so are its verifications, in this proportion.
            cpu_ms_each: (approved > 0 && load.arrivals == Arrivals::Closed).then(|| {
                let share = seconds / (seconds + 1.0);
                (loaded.cpu_ms - idle.cpu_ms) as f64 * share / approved as f64
            }),
        });
        Self {
            clients: load.clients,
            offered_per_second: match load.arrivals {
                Arrivals::Closed => None,
                Arrivals::Rate(rate) => Some(rate),
            },
            seconds,
            approved,
            approved_per_second: approved as f64 / seconds,
            whole_ms: Spread::of(&seen.approved),
            verify_ms: Spread::of(&seen.verify),
            others: seen.others.clone(),
            told_to_wait_s: (load.arrivals == Arrivals::Closed).then_some(seen.told.as_secs_f64()),
            approved_late: seen.approved_late,
            gateway,
            load_average: load_average(),
        }
    }

    /// Whether something was approved, and nothing late.
    pub fn is_sound(&self) -> bool {
        self.approved > 0 && self.approved_late == 0
    }
}

impl Spread {
    fn of(times: &[Duration]) -> Option<Self> {
        let mut times: Vec<_> = times.iter().map(|time| time.as_secs_f64() * 1e3).collect();
        times.sort_by(f64::total_cmp);
        // The smallest that at least so many hundredths do not exceed.
        let at = |percent: usize| {
            let rank = (times.len() * percent).div_ceil(100).max(1);
            times.get(rank - 1).copied()
        };
        Some(Self { p50: at(50)?, p95: at(95)?, p99: at(99)?, max: at(100)? })
    }
}

fn load_average() -> Option<f64> {
    let text = std::fs::read_to_string("/proc/loadavg").ok()?;
    text.split_ascii_whitespace().next()?.parse().ok()
}

impl fmt::Display for Figures {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        let Self { clients, offered_per_second, seconds, approved, approved_per_second, .. } = self;
        match offered_per_second {
            Some(rate) => writeln!(f, "open loop, {rate} offered a second to {clients} terminals")?,
            None => writeln!(f, "closed loop, {clients} terminals")?,
        }
        writeln!(f, "approved   {approved} in {seconds:.1} s: {approved_per_second:.1} a second")?;
        for (what, spread) in [("whole", &self.whole_ms), ("verify", &self.verify_ms)] {
            if let Some(Spread { p50, p95, p99, max }) = spread {
                let ms = format!("p50 {p50:.1}, p95 {p95:.1}, p99 {p99:.1}, max {max:.1} ms");
                writeln!(f, "{what:<10} {ms}")?;
            }
        }
        for (reason, count) in &self.others {
            writeln!(f, "otherwise  {count} {reason}")?;
        }
        if let Some(told) = self.told_to_wait_s.filter(|told| *told > 0.0) {
            writeln!(f, "waited     {told:.1} s as told, over all terminals")?;
        }
        if self.approved_late > 0 {
            writeln!(f, "LATE       {} approvals after the deadline", self.approved_late)?;
        }
        if let Some(gateway) = &self.gateway {
            let GatewayFigures { resident_idle_mib: idle, resident_loaded_mib: loaded, .. } =
                gateway;
            writeln!(f, "memory     {idle:.0} MiB idle, {loaded:.0} MiB after the load")?;
            if let Some(each) = gateway.cpu_ms_each {
                writeln!(f, "processor  about {each:.1} ms of the gateway's a verification")?;
            }
        }
        match self.load_average {
            Some(load) => writeln!(f, "machine    load average {load:.2}"),
            None => Ok(()),
        }
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn percentiles_are_of_the_values_that_occurred() {
        let times: Vec<_> = (1..=200).rev().map(Duration::from_millis).collect();
        let spread = Spread::of(&times).unwrap();
        assert_eq!((spread.p50, spread.p95), (100.0, 190.0));
        assert_eq!((spread.p99, spread.max), (198.0, 200.0));
        let one = Spread::of(&[Duration::from_millis(7)]).unwrap();
        assert_eq!((one.p50, one.p99), (7.0, 7.0));
        assert!(Spread::of(&[]).is_none());
    }
}
