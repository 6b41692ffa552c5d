//! What a replay found, from the gateway's words to the wire.

use super::answer;
use crate::gateway::{Agreement, Compared, LookedBy, Replay, ReplayEnd, Verdict};
use crate::proto;

impl From<Replay> for proto::ReplayResponse {
    fn from(replay: Replay) -> Self {
        let verdict = verdict(replay.verdict()).into();
        let Replay { end: ended, compared, then, now, as_recorded, read } = replay;
        Self {
            verdict,
            end: ended.map_or(proto::ReplayEnd::Unspecified, end).into(),
            compared: compared.into_iter().map(proto::Compared::from).collect(),
            then: then.map(proto::LookedBy::from),
            now: Some(now.into()),
            as_recorded,
            read_position: read.as_ref().map(answer::position),
        }
    }
}

impl From<Compared> for proto::Compared {
    fn from(compared: Compared) -> Self {
        let Compared { name, recorded, found, agreement } = compared;
        let agreement = match agreement {
            Agreement::Same => proto::Agreement::Same,
            Agreement::Within => proto::Agreement::Within,
            Agreement::Different => proto::Agreement::Different,
        };
        Self { name, recorded, found, agreement: agreement.into() }
    }
}

impl From<LookedBy> for proto::LookedBy {
    fn from(by: LookedBy) -> Self {
        let LookedBy { build, isa, manifest } = by;
        Self { build, isa, manifest }
    }
}

const fn verdict(verdict: Verdict) -> proto::ReplayVerdict {
    use proto::ReplayVerdict as Wire;
    match verdict {
        Verdict::Same => Wire::Same,
        Verdict::Within => Wire::Within,
        Verdict::Different => Wire::Different,
        Verdict::Ended => Wire::Ended,
    }
}

const fn end(end: ReplayEnd) -> proto::ReplayEnd {
    use proto::ReplayEnd as Wire;
    match end {
        ReplayEnd::NoDecision => Wire::NoDecision,
        ReplayEnd::NoCapture => Wire::NoCapture,
        ReplayEnd::NeverKept => Wire::NeverKept,
        ReplayEnd::Expired => Wire::Expired,
        ReplayEnd::CustomerErased => Wire::CustomerErased,
        ReplayEnd::TemplateGone => Wire::TemplateGone,
        ReplayEnd::PackGone => Wire::PackGone,
        ReplayEnd::ModelsGone => Wire::ModelsGone,
        ReplayEnd::Older => Wire::Older,
    }
}
