//! What the finder of [`super::rewrite`] knows of the graph's values.

use super::memory::Extent;
use super::program::{Convolution, Value, Work};

/// What is known of a value of the graph that belongs to the trunk.
pub(super) enum Known {
    /// A step that has not been written, since more may go into it.
    Pending(Box<Pending>),
    /// A value of the program.
    Ready(Operand),
    /// All pixels of a value added up, for a division.
    Total(Value),
    /// The logistic function of a value of one pixel, for a multiplication.
    Squashed(Value),
    /// A value with its channels moved to the end, for an export.
    Moved(Value),
}

/// A step that has not been written.
pub(super) struct Pending {
    pub(super) work: Work,
    pub(super) inputs: Vec<Value>,
    pub(super) extent: Extent,
}

impl Known {
    pub(super) fn pending(work: Work, inputs: Vec<Value>, extent: Extent) -> Self {
        Self::Pending(Box::new(Pending { work, inputs, extent }))
    }
}

impl Pending {
    fn convolution(&self) -> Option<&Convolution> {
        match &self.work {
            Work::FromPlanes(last)
            | Work::Dense(last)
            | Work::ByChannel(last)
            | Work::Strip(_, last) => Some(last),
            _ => None,
        }
    }

    pub(super) fn convolution_mut(&mut self) -> Option<&mut Convolution> {
        match &mut self.work {
            Work::FromPlanes(last)
            | Work::Dense(last)
            | Work::ByChannel(last)
            | Work::Strip(_, last) => Some(last),
            _ => None,
        }
    }

    pub(super) fn slope_mut(&mut self) -> Option<&mut Option<Vec<f32>>> {
        match &mut self.work {
            Work::Sum(slope) => Some(slope),
            Work::FromPlanes(last)
            | Work::Dense(last)
            | Work::ByChannel(last)
            | Work::Strip(_, last) => Some(&mut last.slope),
            _ => None,
        }
    }

    /// Whether nothing has been taken in that must be the last.
    pub(super) fn is_open(&self) -> bool {
        match (&self.work, self.convolution()) {
            (Work::Sum(slope), _) => slope.is_none(),
            (_, Some(last)) => last.slope.is_none() && !last.pooled,
            _ => false,
        }
    }

    /// A convolution without a residual.
    pub(super) fn is_bare_convolution(&self) -> bool {
        self.convolution().is_some() && self.inputs.len() < 2
    }

    /// A convolution whose kernel can keep the greatest of each 2×2 results.
    pub(super) fn may_pool(&self) -> bool {
        let by_channel = matches!(self.work, Work::ByChannel(_) | Work::Strip(..));
        by_channel
            && self
                .convolution()
                .is_some_and(|last| last.kernel == [3, 3] && last.stride == [1, 1] && !last.pooled)
    }
}

/// A value, or one that counts as larger, with zeros beyond.
#[derive(Clone, Copy)]
pub(super) struct Operand {
    pub(super) value: Value,
    pub(super) extent: Extent,
}
