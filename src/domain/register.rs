//! Registers: lists of persons, cards, accounts and devices that rules ask.

use super::words::words;

words! {
    /// A register.
    Register {
        /// Persons of the bank's hotlist.
        HotlistPerson = "hotlist_person",
        /// Cards of the bank's hotlist.
        HotlistCard = "hotlist_card",
        /// Accounts of the bank's hotlist.
        HotlistAccount = "hotlist_account",
        /// Terminals and devices of the bank's hotlist.
        HotlistDevice = "hotlist_device",
        /// Persons whom a regulator lists as money mules.
        Dropper = "dropper",
        /// Accounts tied to a crypto platform without a licence.
        UnlicensedPlatform = "unlicensed_platform",
    }
}
