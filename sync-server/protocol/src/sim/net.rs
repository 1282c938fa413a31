//! One connection: two sessions and the messages between them.

use std::collections::VecDeque;

use super::Dice;
use crate::session::Session;

#[derive(Debug)]
pub(super) struct Wire {
    pub dialer: usize,
    pub acceptor: usize,
    pub dial: Session,
    pub accept: Session,
    pub to_acceptor: VecDeque<Vec<u8>>,
    pub to_dialer: VecDeque<Vec<u8>>,
    pub cut: bool,
}

/// How likely each accident is, in percent per message.
#[derive(Clone, Copy, Debug)]
pub(super) struct Weather {
    pub lose: u64,
    pub repeat: u64,
    pub swap: u64,
}

impl Wire {
    /// Takes the next message in one direction off the wire, or what the weather makes of it.
    pub fn next(&mut self, to_acceptor: bool, weather: Weather, dice: &mut Dice) -> Option<Vec<u8>> {
        let queue = if to_acceptor { &mut self.to_acceptor } else { &mut self.to_dialer };
        if queue.len() > 1 && dice.percent(weather.swap) {
            queue.swap(0, 1);
        }
        if queue.front().is_some() && dice.percent(weather.lose) {
            queue.pop_front();
            return None;
        }
        match dice.percent(weather.repeat) {
            true => queue.front().cloned(),
            false => queue.pop_front(),
        }
    }

    pub fn is_idle(&self) -> bool {
        self.to_acceptor.is_empty() && self.to_dialer.is_empty()
    }
}
