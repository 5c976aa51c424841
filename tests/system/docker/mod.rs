//! What Docker's bridge driver does, row by row: a test's name begins with the row it is about. The
//! reference is Docker with the userland proxy off, where netd does not choose to differ.
//!
//! Rows without a test here:
//!
//! * P8: `port_reservation.rs`.
//! * P10: the proxy is on; its clients lose their addresses, which nobody wants back.
//! * P17: WSL2's mirrored mode has devices that no Linux host has.
//! * P21: `docker port`, `ps` and `inspect` are Docker's own answers.
//! * M7: accepting by firewall mark belongs to rules that netd does not have.
//! * M8: DOCKER-USER is a chain of iptables; netd has no filter rules of users yet.
//! * M9: zones are firewalld's, and netd leaves them to it.
//! * M3, I6, I7, I8, I10 and the trusted devices of D1: the modes of a gateway have tests of their own.
//! * I3: `--link` is legacy, and of Docker's default bridge alone.

mod direct;
mod hairpin;
mod isolation;
mod masquerade;
mod published;
