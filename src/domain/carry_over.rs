//! Carry-over: a limit adds what was not used in a window to its allowance in the next window, within caps (R4.46).

/// The largest percentage that a limit can carry over.
pub const CARRY_MAX_PERCENT: i32 = 100;

/// How much a limit carries over to the next window. At least one of the caps is given.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub struct Carry {
    /// At most this percentage of the limit's quantity, 1 to 100. `None`: this cap is absent.
    pub percent: Option<i32>,
    /// At most this many units, 1 or more. `None`: this cap is absent.
    pub quantity: Option<i64>,
}

impl Carry {
    /// Returns the units that are carried over from a window with this quantity, of which `used` units are committed
    /// or held. What the window itself got by carry-over does not count.
    pub fn units(self, quantity: i64, used: i128) -> i64 {
        let unused = (i128::from(quantity) - used).max(0);
        let percent = self.percent.map(|percent| i128::from(quantity) * i128::from(percent) / 100);
        let caps = percent.into_iter().chain(self.quantity.map(i128::from));
        // No cap is above the largest quantity, or else `unused` is not.
        i64::try_from(caps.fold(unused, i128::min)).unwrap_or(i64::MAX)
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn the_smallest_of_the_caps_and_the_unused_units_is_carried_over() {
        let (percent, units) = (
            |percent| Carry { percent: Some(percent), quantity: None },
            |units| Carry { percent: None, quantity: Some(units) },
        );
        let both = |percent, units| Carry { percent: Some(percent), quantity: Some(units) };
        let rows: &[(Carry, i64, i128, i64)] = &[
            (percent(100), 100, 30, 70),
            (percent(50), 100, 30, 50),
            (percent(50), 100, 60, 40),
            // Rounded down.
            (percent(33), 10, 0, 3),
            (percent(1), 99, 0, 0),
            (percent(100), 100, 100, 0),
            (percent(100), 100, 130, 0),
            (units(25), 100, 30, 25),
            (units(25), 100, 90, 10),
            (both(50, 60), 100, 0, 50),
            (both(50, 40), 100, 0, 40),
            (both(50, 40), 100, 80, 20),
            (percent(100), 0, 0, 0),
            (percent(100), i64::MAX, 0, i64::MAX),
            (percent(99), i64::MAX, 2 * i128::from(i64::MAX), 0),
            (units(i64::MAX), i64::MAX, 1, i64::MAX - 1),
        ];
        for &(carry, quantity, used, expected) in rows {
            assert_eq!(carry.units(quantity, used), expected, "{carry:?} of {quantity} with {used} used");
        }
    }

    /// The model hands out one unit after the other, as long as no cap is reached.
    #[test]
    fn the_units_are_those_of_a_model_that_counts_one_by_one() {
        let mut chance = 0x9e37_79b9_7f4a_7c15_u64;
        let mut below = |bound: u64| {
            chance ^= chance << 13;
            chance ^= chance >> 7;
            chance ^= chance << 17;
            i64::try_from(chance % bound).expect("small")
        };
        for _ in 0..5_000 {
            let (quantity, used) = (below(120), below(150));
            let percent = (below(3) > 0).then(|| i32::try_from(below(100) + 1).expect("small"));
            let units = (percent.is_none() || below(2) > 0).then(|| below(80) + 1);
            let carry = Carry { percent, quantity: units };
            let mut carried = 0;
            loop {
                let next = carried + 1;
                let fits_percent = percent.is_none_or(|percent| next * 100 <= quantity * i64::from(percent));
                if used + next > quantity || !fits_percent || units.is_some_and(|units| next > units) {
                    break;
                }
                carried = next;
            }
            assert_eq!(carry.units(quantity, used.into()), carried, "{carry:?} of {quantity}, {used} used");
        }
    }
}
