//! The relay of crsql: rooms of replicated databases over WebSocket and HTTP.

#![forbid(unsafe_code)]

pub mod check;
pub mod config;
pub mod serve;
