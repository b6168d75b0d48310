//! The codes and the names of enums. A code is the number that stands for a value in keys, rows and bodies.

/// Gives an enum its codes, and its names if there are any. One table gives the functions for all directions. A code
/// never changes its meaning.
macro_rules! codes {
    ($enum:ident as $number:ty: $($value:ident = $code:literal $name:literal),+ $(,)?) => {
        codes!($enum as $number: $($value = $code),+);

        impl $enum {
            /// Returns the name of the value in the contract.
            pub fn name(self) -> &'static str {
                match self {
                    $($enum::$value => $name,)+
                }
            }
        }
    };
    ($enum:ident as $number:ty: $($value:ident = $code:literal),+ $(,)?) => {
        impl $enum {
            /// Every value, in the order of codes.
            pub const ALL: [Self; [$($code),+].len()] = [$($enum::$value),+];

            /// Returns the number that stands for the value in keys and rows. Numbers never change their meaning.
            pub fn code(self) -> $number {
                match self {
                    $($enum::$value => $code,)+
                }
            }

            /// Returns the value that a number from `code` stands for. `None`: no value has this number.
            pub fn from_code(code: $number) -> Option<Self> {
                match code {
                    $($code => Some($enum::$value),)+
                    _ => None,
                }
            }
        }
    };
}

pub(super) use codes;
