//! Registers, from the wire and back.

use super::noun;
use crate::domain::register::{Listed, Register, SourceCode};
use crate::domain::transaction::OpaqueToken;
use crate::gateway::LogPosition;
use crate::gateway::{ListedRow, ListedValue, RegisterDiff, RegisterRow};
use crate::grpc::status::InvalidField;
use crate::proto;

/// Which register.
pub fn register(path: &'static str, wire: i32) -> Result<Register, InvalidField> {
    use proto::RegisterKind as Wire;
    match noun::named(path, wire)? {
        Wire::Unspecified => Err(InvalidField::missing(path)),
        Wire::HotlistPerson => Ok(Register::HotlistPerson),
        Wire::HotlistCard => Ok(Register::HotlistCard),
        Wire::HotlistAccount => Ok(Register::HotlistAccount),
        Wire::HotlistDevice => Ok(Register::HotlistDevice),
        Wire::Dropper => Ok(Register::Dropper),
        Wire::UnlicensedPlatform => Ok(Register::UnlicensedPlatform),
    }
}

const fn kind(register: Register) -> proto::RegisterKind {
    use proto::RegisterKind as Wire;
    match register {
        Register::HotlistPerson => Wire::HotlistPerson,
        Register::HotlistCard => Wire::HotlistCard,
        Register::HotlistAccount => Wire::HotlistAccount,
        Register::HotlistDevice => Wire::HotlistDevice,
        Register::Dropper => Wire::Dropper,
        Register::UnlicensedPlatform => Wire::UnlicensedPlatform,
    }
}

/// A row of a register.
pub fn row(of: Register, wire: proto::RegisterRow) -> Result<ListedRow, InvalidField> {
    let proto::RegisterRow { line: _, value, note, valid_until } = wire;
    if value.is_empty() {
        return Err(InvalidField::missing("value"));
    }
    let token = || noun::text::<OpaqueToken>("value", &value);
    let value = match of.lists() {
        Listed::Persons => ListedValue::Person(noun::iin("value", &value)?),
        Listed::Cards => ListedValue::Card(token()?),
        Listed::Accounts => ListedValue::Account(token()?),
        Listed::Terminals => ListedValue::Terminal(noun::text("value", &value)?),
    };
    let note = Some(note).filter(|note| !note.is_empty());
    let note = note.map(|note| noun::text::<SourceCode>("note", &note)).transpose()?;
    Ok(ListedRow { value, note, valid_until: noun::instant_or_empty("valid_until", &valid_until)? })
}

/// A version of a register.
pub fn version(row: RegisterRow, position: LogPosition) -> proto::RegisterVersion {
    let RegisterRow { register, version, hash, count, imported_at, index: _ } = row;
    proto::RegisterVersion {
        kind: kind(register).into(),
        name: register.as_str().to_owned(),
        version,
        hash: hash.labelled(),
        count,
        imported_at: Some(imported_at.into()),
        entry_index: position.index,
        entry_origin: position.origin.as_str().to_owned(),
    }
}

/// What an import changed.
pub fn diff(
    diff: RegisterDiff,
    version: Option<proto::RegisterVersion>,
    bad_rows: u64,
) -> proto::RegisterDiff {
    let RegisterDiff { added, removed, unchanged, changed, version: _ } = diff;
    proto::RegisterDiff { added, removed, unchanged, changed, bad_rows, version }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn every_register_has_its_name_on_the_wire() {
        for each in Register::ALL {
            assert_eq!(register("kind", kind(each).into()).unwrap(), each);
            let name = kind(each).as_str_name().to_lowercase();
            assert_eq!(name, format!("register_kind_{}", each.as_str()));
        }
        assert_eq!(register("kind", 0).unwrap_err().path, "kind");
        assert_eq!(register("kind", 99).unwrap_err().path, "kind");
    }
}
