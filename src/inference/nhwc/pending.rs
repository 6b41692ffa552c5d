//! What the finder of [`super::rewrite`] knows of the graph's values.

use super::memory::Extent;
use super::program::{Activation, Convolution, Value, Work};

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

    fn activation_mut(&mut self) -> Option<&mut Activation> {
        match &mut self.work {
            Work::Sum(activation) => Some(activation),
            Work::Norm(norm) => Some(&mut norm.activation),
            Work::FromPlanes(last)
            | Work::Dense(last)
            | Work::ByChannel(last)
            | Work::Strip(_, last) => Some(&mut last.activation),
            _ => None,
        }
    }

    /// Gives it an activation.
    pub(super) fn activate(&mut self, activation: Activation) {
        if let Some(there) = self.activation_mut() {
            *there = activation;
        }
    }

    /// Whether its kernel can apply this activation.
    pub(super) fn takes(&self, activation: &Activation) -> bool {
        let bends = matches!(self.work, Work::Sum(_) | Work::Norm(_) | Work::Dense(_));
        let slopes = !matches!(self.work, Work::Norm(_));
        let fits = if activation.curve().is_some() { bends } else { slopes };
        fits && self.is_open()
    }

    /// Whether nothing has been taken in that must be the last.
    pub(super) fn is_open(&self) -> bool {
        let linear = |activation: &Activation| *activation == Activation::Linear;
        match (&self.work, self.convolution()) {
            (Work::Sum(activation), _) => linear(activation),
            (Work::Norm(norm), _) => linear(&norm.activation),
            (_, Some(last)) => linear(&last.activation) && !last.pooled,
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
            && self.convolution().is_some_and(|last| {
                (last.kernel, last.stride, last.dilation) == PLAIN && !last.pooled
            })
    }
}

/// A value, or one that counts as larger, with zeros beyond.
#[derive(Clone, Copy)]
pub(super) struct Operand {
    pub(super) value: Value,
    pub(super) extent: Extent,
}

/// Kernel, stride and dilation of a plain 3×3 convolution.
const PLAIN: ([usize; 2], [usize; 2], [usize; 2]) = ([3, 3], [1, 1], [1, 1]);
