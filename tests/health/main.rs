//! Health checks: the monitor in paused time, and the checks that come with it over real sockets.

mod membership;
mod monitor;
mod spread;
mod stage;
