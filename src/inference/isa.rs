//! Which instructions the fast kernels use.

use std::fmt;
use std::str::FromStr;

use tract_onnx::tract_core::tract_linalg::knobs::TRACT_AMX_BF16;

/// The instruction set that models are compiled for.
#[derive(Clone, Copy, PartialEq, Eq, Hash, Debug)]
pub enum Isa {
    /// tract's own operators, on any processor.
    Plain,
    /// x86-64 with AVX2 and FMA.
    Avx2,
    /// x86-64 with AVX-512F.
    Avx512,
    /// The same with AMX for products of bf16, as far as the system grants it to this process.
    Amx,
}

/// What the environment asks for and cannot have.
#[derive(Debug, Clone, PartialEq, Eq, thiserror::Error)]
#[non_exhaustive]
pub enum IsaError {
    /// No such word.
    #[error("TULGA_ISA is {0:?}; it may be plain, avx2, avx512 or amx")]
    Unknown(String),
    /// The processor lacks the instructions.
    #[error("TULGA_ISA is {0}, which this processor, or its system, has not")]
    Absent(Isa),
    /// tract's own operators were allowed to round what they multiply.
    #[error(
        "TRACT_AMX_BF16 is set: tract's operators may keep no more than 8 significant bits of each number; unset \
         it, for every model is held against them"
    )]
    Rounded,
}

impl Isa {
    /// Every one, from the simplest on.
    pub const ALL: [Self; 4] = [Self::Plain, Self::Avx2, Self::Avx512, Self::Amx];

    /// What the environment variable `TULGA_ISA` forces, or else the best that this processor has.
    ///
    /// # Errors
    ///
    /// [`IsaError`] for an unknown word, and for instructions that the processor lacks: a switch
    /// that is not followed would make a measurement or a test say something false.
    pub fn chosen() -> Result<Self, IsaError> {
        match std::env::var_os(VARIABLE) {
            Some(word) => Self::forced(&word.to_string_lossy()),
            None => Ok(Self::best()),
        }
    }

    /// What a word forces.
    ///
    /// # Errors
    ///
    /// [`IsaError`] for an unknown word, and for instructions that the processor lacks.
    pub fn forced(word: &str) -> Result<Self, IsaError> {
        let isa: Self = word.parse()?;
        if isa.is_present() { Ok(isa) } else { Err(IsaError::Absent(isa)) }
    }

    /// The best that this processor has.
    #[must_use]
    pub fn best() -> Self {
        Self::ALL.into_iter().rev().find(|isa| isa.is_present()).unwrap_or(Self::Plain)
    }

    /// It, and the simpler ones that this processor has, down to [`Isa::Plain`].
    pub(super) fn and_simpler(self) -> impl Iterator<Item = Self> {
        let from_best = Self::ALL.into_iter().rev().skip_while(move |isa| *isa != self);
        from_best.filter(move |isa| *isa == self || isa.is_present())
    }

    /// Whether this processor has the instructions, and its system grants those that it hands out on request.
    #[must_use]
    pub fn is_present(self) -> bool {
        match self {
            Self::Plain => true,
            #[cfg(target_arch = "x86_64")]
            Self::Avx2 => is_x86_feature_detected!("avx2") && is_x86_feature_detected!("fma"),
            #[cfg(target_arch = "x86_64")]
            Self::Avx512 => Self::Avx2.is_present() && is_x86_feature_detected!("avx512f"),
            #[cfg(target_arch = "x86_64")]
            Self::Amx => Self::Avx512.is_present() && super::nhwc::has_tiles(),
            #[cfg(not(target_arch = "x86_64"))]
            Self::Avx2 | Self::Avx512 | Self::Amx => false,
        }
    }

    /// Whether tract's own operators multiply numbers as they are: they are what fast kernels are held against.
    ///
    /// # Errors
    ///
    /// [`IsaError::Rounded`] where tract's switch `TRACT_AMX_BF16` is set, with AMX or without.
    pub(super) fn plain_is_exact() -> Result<(), IsaError> {
        if TRACT_AMX_BF16.get() { Err(IsaError::Rounded) } else { Ok(()) }
    }

    /// What several models run on, as audit records have it: their words, and after them the best of this
    /// processor where it is another, since tract's own operators may use that.
    #[must_use]
    pub fn described(used: impl IntoIterator<Item = Self>) -> String {
        let used = used.into_iter().collect::<Vec<_>>();
        let words = Self::ALL.into_iter().filter(|isa| used.contains(isa)).map(Self::word);
        let words = words.collect::<Vec<_>>().join("+");
        let best = Self::best().word();
        if words == best { words } else { format!("{words} on {best}") }
    }

    /// Its word in `TULGA_ISA`.
    #[must_use]
    pub const fn word(self) -> &'static str {
        match self {
            Self::Plain => "plain",
            Self::Avx2 => "avx2",
            Self::Avx512 => "avx512",
            Self::Amx => "amx",
        }
    }
}

impl fmt::Display for Isa {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.write_str(self.word())
    }
}

impl FromStr for Isa {
    type Err = IsaError;

    fn from_str(word: &str) -> Result<Self, IsaError> {
        Self::ALL
            .into_iter()
            .find(|isa| isa.word() == word)
            .ok_or_else(|| IsaError::Unknown(word.to_owned()))
    }
}

const VARIABLE: &str = "TULGA_ISA";

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn each_word_is_read_back_and_no_other_is_taken() {
        for isa in Isa::ALL {
            assert_eq!(isa.to_string().parse(), Ok(isa));
        }
        for word in ["", "AVX2", "avx", "avx512f", "neon", " plain"] {
            assert_eq!(Isa::forced(word), Err(IsaError::Unknown(word.to_owned())));
        }
    }

    #[test]
    fn what_the_processor_lacks_is_refused_not_replaced() {
        for isa in Isa::ALL {
            let expected = if isa.is_present() { Ok(isa) } else { Err(IsaError::Absent(isa)) };
            assert_eq!(Isa::forced(isa.word()), expected);
        }
        assert!(Isa::Plain.is_present());
        assert!(Isa::best().is_present());
    }

    #[test]
    fn simpler_ones_come_one_after_the_other_down_to_the_plain_operators() {
        let orders = [
            &[Isa::Plain][..],
            &[Isa::Avx2, Isa::Plain],
            &[Isa::Avx512, Isa::Avx2, Isa::Plain],
            &[Isa::Amx, Isa::Avx512, Isa::Avx2, Isa::Plain],
        ];
        for order in orders {
            let first = order[0];
            let expected = order.iter().copied().filter(|isa| *isa == first || isa.is_present());
            assert!(first.and_simpler().eq(expected), "{first}");
        }
    }

    #[test]
    fn a_description_names_the_processor_where_it_could_do_more() {
        let best = Isa::best();
        assert_eq!(Isa::described([best, best]), best.word());
        for isa in Isa::ALL.into_iter().filter(|isa| *isa != best) {
            let (alone, mixed) = (Isa::described([isa]), Isa::described([best, isa]));
            assert_eq!(alone, format!("{isa} on {best}"));
            assert!(mixed.contains('+') && mixed.ends_with(&format!(" on {best}")), "{mixed}");
        }
    }
}
