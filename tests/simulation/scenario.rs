//! What is simulated: the servers, how they change, and what they are asked.

use buttress::rng::Rng;

use super::{MS, SEC};

/// How many requests a server works on at once.
pub(crate) const WORKERS: usize = 4;
/// What a request takes at speed 1, on average.
pub(crate) const MEAN_WORK: f64 = 10.0 * MS as f64;

/// Half of the servers at full speed, the others at 70 % and 40 % of it.
const UNEQUAL: [f64; 10] = [1.0, 1.0, 1.0, 1.0, 1.0, 0.7, 0.7, 0.7, 0.4, 0.4];

#[derive(Clone, Debug)]
pub(crate) struct Scenario {
    pub(crate) speeds: Vec<f64>,
    pub(crate) balancers: usize,
    /// The share of the capacity that is asked for, averaged over time where it changes.
    pub(crate) load: f64,
    pub(crate) work: Work,
    pub(crate) antagonist: Option<Antagonist>,
    /// One server, and what is wrong with it.
    pub(crate) fault: Option<(usize, Fault)>,
    /// How likely any request is to fail, after it has taken its time.
    pub(crate) failures: f64,
    /// A further server joins at the end of the warm-up, at this speed, and reaches speed 1 in 10 s.
    pub(crate) newcomer: Option<f64>,
    pub(crate) warm_up: u64,
    pub(crate) measured: u64,
}

/// The law of the work that requests take.
#[derive(Clone, Copy, Debug)]
pub(crate) enum Work {
    Exponential,
    /// A normal distribution whose deviation is its mean, cut off at 0.
    Normal,
    /// Exponential, but every twentieth request takes ten times as long.
    HeavyTailed,
}

impl Work {
    pub(crate) fn draw(self, rng: &mut Rng) -> f64 {
        // Each law is divided by its own mean.
        MEAN_WORK
            * match self {
                Self::Exponential => exponential(rng),
                Self::Normal => (1.0 + normal(rng)).max(0.0) / 1.083_315_47,
                Self::HeavyTailed => {
                    let factor = if rng.unit() < 0.05 { 10.0 } else { 1.0 };
                    exponential(rng) * factor / 1.45
                }
            }
    }
}

/// Others who use the servers' machines: each server is slowed to `factor` for periods of mean `slow`, and left alone for
/// periods of mean `fast`.
#[derive(Clone, Copy, Debug)]
pub(crate) struct Antagonist {
    pub(crate) factor: f64,
    pub(crate) slow: u64,
    pub(crate) fast: u64,
}

impl Antagonist {
    pub(crate) fn share_of_slow(self) -> f64 {
        self.slow as f64 / (self.slow + self.fast) as f64
    }

    fn mean_speed(self) -> f64 {
        1.0 - self.share_of_slow() * (1.0 - self.factor)
    }
}

#[derive(Clone, Copy, Debug)]
pub(crate) enum Fault {
    /// Fails everything after so long, without queueing.
    FailsFast(u64),
    /// From this instant on accepts everything and answers nothing.
    Hangs(u64),
}

impl Scenario {
    /// `servers` alike and `balancers`, with 40 s measured after a warm-up of 10 s.
    fn alike(servers: usize, balancers: usize, load: f64) -> Self {
        Self {
            speeds: vec![1.0; servers],
            balancers,
            load,
            work: Work::Exponential,
            antagonist: None,
            fault: None,
            failures: 0.0,
            newcomer: None,
            warm_up: 10 * SEC,
            measured: 40 * SEC,
        }
    }

    fn unequal(mut self) -> Self {
        for (speed, unequal) in self.speeds.iter_mut().zip(UNEQUAL.iter().cycle()) {
            *speed = *unequal;
        }
        self
    }

    fn disturbed(mut self, factor: f64) -> Self {
        self.antagonist = Some(Antagonist { factor, slow: SEC, fast: 3 * SEC });
        self
    }

    /// The seven that policies are compared in.
    pub(crate) fn named(name: char, load: f64) -> Self {
        match name {
            'A' => Self::alike(20, 1, load),
            'B' => Self::alike(20, 1, load).unequal(),
            'C' => Self::alike(20, 20, load).unequal(),
            'D' => Self::alike(20, 1, load).disturbed(0.35),
            'E' => Self::alike(20, 20, load).disturbed(0.35),
            // The published model leaves the factor open. With 0.5, and the load taken of the capacity averaged over
            // time, the known policies come closest to what was published (p99 in ms at 85 %, published and here):
            // least request of all 661 and 748, of two 886 and 1041, peak EWMA of all 71 and 75, of two 300 and 503,
            // the oracle 65 and 51. With 0.35 they are further off.
            'F' => Self {
                work: Work::Normal,
                warm_up: 6 * SEC,
                measured: 12 * SEC,
                ..Self::alike(100, 100, load).unequal().disturbed(0.5)
            },
            'G' => Self { work: Work::HeavyTailed, ..Self::alike(20, 4, load).unequal() },
            _ => panic!("there is no scenario {name}"),
        }
    }

    /// One of 20 servers fails in 0.3 ms, at 60 % load.
    pub(crate) fn black_hole(balancers: usize) -> Self {
        Self { fault: Some((7, Fault::FailsFast(3 * MS / 10))), ..Self::alike(20, balancers, 0.6) }
    }

    /// One of 20 servers hangs 5 s into the measurement, at 60 % load.
    pub(crate) fn hung_server(balancers: usize) -> Self {
        Self { fault: Some((7, Fault::Hangs(15 * SEC))), ..Self::alike(20, balancers, 0.6) }
    }

    /// A cold server joins 20 warm ones that are at 80 % load.
    pub(crate) fn cold_join(balancers: usize) -> Self {
        Self { newcomer: Some(0.15), measured: 10 * SEC, ..Self::alike(20, balancers, 0.8) }
    }

    /// The mean time between two requests, in nanoseconds.
    pub(crate) fn gap(&self) -> f64 {
        let speed = self.speeds.iter().sum::<f64>() * self.antagonist.map_or(1.0, Antagonist::mean_speed);
        MEAN_WORK / (self.load * speed * WORKERS as f64)
    }
}

/// Exponential, of mean 1.
pub(crate) fn exponential(rng: &mut Rng) -> f64 {
    -(1.0 - rng.unit()).ln()
}

/// Normal, of mean 0 and deviation 1 (Box and Muller).
fn normal(rng: &mut Rng) -> f64 {
    (2.0 * exponential(rng)).sqrt() * (std::f64::consts::TAU * rng.unit()).cos()
}
