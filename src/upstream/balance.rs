//! Which of several endpoints takes the next request. Pure: everything that it looks at is handed in.

use crate::config::Balance;

/// What is known of an endpoint at the moment of choice.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub struct Candidate {
    /// Its share; 0 takes nothing.
    pub weight: u16,
    /// Whether its health check, if it has one, is content.
    pub healthy: bool,
    /// Requests in hand.
    pub in_flight: usize,
}

impl Candidate {
    fn may_be_chosen(self) -> bool {
        self.healthy && self.weight > 0
    }
}

/// The place of the endpoint that takes the request, or `None` where none may.
///
/// `turn` is how many requests were placed before; `lot` is a random number.
pub fn choose(balance: Balance, candidates: &[Candidate], turn: usize, lot: u64) -> Option<usize> {
    match balance {
        Balance::RoundRobin => in_turn(candidates, turn),
        Balance::LeastRequests => least_requests(candidates, turn),
        Balance::Random => by_lot(candidates, lot),
    }
}

/// Every round of as many turns as there are shares gives each endpoint exactly its weight, spread over the round:
/// of weights 2 and 1 the order is A B A, never A A B.
///
/// The shares lie in a row; each turn steps on by about 0.618 of the round, a step without a common divisor with
/// it, so that every share is met once. No state but the number of the turn: a run repeats exactly.
fn in_turn(candidates: &[Candidate], turn: usize) -> Option<usize> {
    let weights = || candidates.iter().filter(|c| c.may_be_chosen()).map(|c| usize::from(c.weight));
    let unit = weights().fold(0, gcd);
    if unit == 0 {
        return None;
    }
    let round = weights().sum::<usize>() / unit;
    let step = ((round * 618 + 500) / 1000..).find(|&step| gcd(step, round) == 1)?;
    share(candidates, (turn % round * step % round * unit) as u64)
}

/// The endpoint to which the share at `place` belongs.
fn share(candidates: &[Candidate], place: u64) -> Option<usize> {
    let mut left = place;
    (0..candidates.len()).filter(|&at| candidates[at].may_be_chosen()).find(|&at| {
        let weight = u64::from(candidates[at].weight);
        let here = left < weight;
        left = left.saturating_sub(weight);
        here
    })
}

fn gcd(a: usize, b: usize) -> usize {
    if b == 0 { a } else { gcd(b, a % b) }
}

fn least_requests(candidates: &[Candidate], turn: usize) -> Option<usize> {
    let len = candidates.len();
    // Equals are taken in turn, so that the first one is not always the busy one.
    (0..len).map(|step| (turn + step) % len).filter(|&at| candidates[at].may_be_chosen()).min_by(|&a, &b| {
        let (a, b) = (candidates[a], candidates[b]);
        // in_flight / weight, compared without division.
        ((a.in_flight + 1) * usize::from(b.weight)).cmp(&((b.in_flight + 1) * usize::from(a.weight)))
    })
}

fn by_lot(candidates: &[Candidate], lot: u64) -> Option<usize> {
    let total: u64 = candidates.iter().filter(|c| c.may_be_chosen()).map(|c| u64::from(c.weight)).sum();
    share(candidates, lot.checked_rem(total)?)
}

#[cfg(test)]
mod tests {
    use proptest::prelude::*;

    use super::*;

    fn candidates(weights: &[u16]) -> Vec<Candidate> {
        weights.iter().map(|&weight| Candidate { weight, healthy: true, in_flight: 0 }).collect()
    }

    fn order(weights: &[u16], turns: usize) -> Vec<usize> {
        let candidates = candidates(weights);
        (0..turns).filter_map(|turn| choose(Balance::RoundRobin, &candidates, turn, 0)).collect()
    }

    #[test]
    fn equals_take_turns_and_weights_are_spread() {
        assert_eq!(order(&[1, 1], 4), [0, 1, 0, 1]);
        assert_eq!(order(&[100, 100], 4), [0, 1, 0, 1]);
        assert_eq!(order(&[2, 1], 6), [0, 1, 0, 0, 1, 0]);
        assert_eq!(order(&[9, 1], 10).iter().filter(|&&at| at == 1).count(), 1);
    }

    #[test]
    fn whoever_is_ill_or_weighs_nothing_is_left_out() {
        for balance in [Balance::RoundRobin, Balance::LeastRequests, Balance::Random] {
            let mut three = candidates(&[1, 0, 1]);
            three[0].healthy = false;
            for turn in 0..10 {
                assert_eq!(choose(balance, &three, turn, turn as u64), Some(2), "{balance:?}");
            }
            three[2].healthy = false;
            assert_eq!(choose(balance, &three, 0, 0), None, "{balance:?}");
            assert_eq!(choose(balance, &[], 0, 0), None, "{balance:?}");
        }
    }

    #[test]
    fn fewest_requests_are_counted_by_weight() {
        let mut two = candidates(&[1, 3]);
        two[0].in_flight = 1;
        two[1].in_flight = 4;
        assert_eq!(choose(Balance::LeastRequests, &two, 0, 0), Some(1));
        two[1].in_flight = 6;
        assert_eq!(choose(Balance::LeastRequests, &two, 0, 0), Some(0));
    }

    proptest! {
        #[test]
        fn a_round_gives_each_endpoint_exactly_its_weight(weights in prop::collection::vec(0u16..20, 1..6), start in 0usize..1000) {
            let total: usize = weights.iter().map(|&weight| usize::from(weight)).sum();
            let candidates = candidates(&weights);
            let mut taken = vec![0usize; weights.len()];
            for turn in start..start + total {
                taken[choose(Balance::RoundRobin, &candidates, turn, 0).expect("somebody")] += 1;
            }
            prop_assert_eq!(taken, weights.iter().map(|&weight| usize::from(weight)).collect::<Vec<_>>());
        }
    }
}
