//! Ejection of outliers from live traffic, and the way back, with whole balancers under a clock that the test moves.

mod ejecting;
mod idle;
mod probing;
mod returning;
mod stress;
mod support;
mod waiting;
