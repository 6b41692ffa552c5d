/* What the bank's host asks before it authorises cash: is this receipt the gateway's, for this host, for
 * this transaction and amount, still good, and not acted on before?
 *
 *   cargo rustc --lib --release --no-default-features --features verifier --crate-type cdylib
 *
 * makes target/release/libtulga.so (or .dylib, .dll). docs/receipt-format.md says what is verified.
 *
 * All texts are UTF-8 and end with a null byte. Nothing is kept of what is handed over. A verifier may be
 * used by several threads at once. Whatever is not TULGA_OK means: do not authorise; the text in `error`
 * (cut to `error_len`, always ended; may be null) says why, for a log and not for a customer.
 */
#ifndef TULGA_VERIFIER_H
#define TULGA_VERIFIER_H

#include <stddef.h>
#include <stdint.h>

#ifdef __cplusplus
extern "C" {
#endif

enum tulga_code {
    TULGA_OK = 0,           /* the host may authorise, now and once */
    TULGA_ARGUMENT = 1,     /* an argument is null, too long or malformed */
    TULGA_REGISTER = 2,     /* the key register is not the trusted root key's */
    TULGA_RECEIPT = 3,      /* it is not a receipt that a key of the register signed */
    TULGA_KIND = 4,         /* it is not the receipt of a decision */
    TULGA_AUDIENCE = 5,     /* it is for another host */
    TULGA_EXPIRED = 6,      /* it may not be acted on any more */
    TULGA_NOT_YET = 7,      /* its time lies ahead of the host's clock */
    TULGA_COMMITMENT = 8,   /* it is for another transaction, or the salt is another one */
    TULGA_TRANSACTION = 9,  /* it is for another terminal, operation or currency */
    TULGA_OUTCOME = 10,     /* it does not approve */
    TULGA_AMOUNT = 11,      /* the amount is more than it approves */
    TULGA_REDEEMED = 12,    /* it was acted on before */
    TULGA_TABLE = 13,       /* the table of redeemed receipts cannot be read or written */
    TULGA_INTERNAL = 14,    /* the verifier failed */
    TULGA_TOO_LONG = 15,    /* it may be acted on for more than five minutes, which no gateway says */
    TULGA_REVOKED = 16      /* the key that signed it is revoked */
};

typedef struct tulga_verifier tulga_verifier;

/* What the host is about to do, as it knows it itself. */
typedef struct tulga_demand {
    const char *host_transaction_id;
    const char *business_date; /* YYYY-MM-DD */
    uint32_t attempt;          /* from 1 */
    const char *account;
    const char *counterparty; /* null where there is none */
    const char *terminal;
    const char *operation; /* cash_withdrawal, cash_deposit, third_party_deposit */
    int64_t amount_minor;
    const char *currency; /* ISO 4217 */
} tulga_demand;

typedef struct tulga_authorised {
    int64_t amount_minor;     /* what was asked for */
    int64_t amount_max_minor; /* the most that the receipt approves */
    int64_t time_ms;          /* the receipt's time, milliseconds since 1970 */
    uint64_t index;           /* its place in the ledger `origin` */
    char rid[24];
    char origin[256]; /* cut where it is longer */
} tulga_authorised;

/* Makes a verifier by keys.json and keys.json.sig, whose root key has the fingerprint `trust`, for the host
 * that receipts call `audience`. What was redeemed is kept in `replay_file`, synced before each TULGA_OK; one
 * process at a time has it open. With null it is kept in memory and ends with the verifier. `now_ms` is the
 * host's clock, milliseconds since 1970. */
int tulga_verifier_new(const uint8_t *keys_json, size_t keys_json_len, const char *keys_signature,
                       const char *trust, const char *audience, const char *replay_file, int64_t now_ms,
                       tulga_verifier **verifier, char *error, size_t error_len);

/* Takes a newer register after a rotation of keys; on failure the old one stays. */
int tulga_verifier_replace_register(const tulga_verifier *verifier, const uint8_t *keys_json,
                                    size_t keys_json_len, const char *keys_signature, char *error,
                                    size_t error_len);

/* Verifies a receipt, opens its commitment with the 32 bytes of `salt`, and redeems it. TULGA_OK comes once for
 * a receipt. `authorised` is written on TULGA_OK only. */
int tulga_verifier_verify(const tulga_verifier *verifier, const uint8_t *jws, size_t jws_len,
                          const uint8_t *salt, const tulga_demand *demand, int64_t now_ms,
                          tulga_authorised *authorised, char *error, size_t error_len);

/* Ends a verifier; null is left alone. */
void tulga_verifier_free(tulga_verifier *verifier);

#ifdef __cplusplus
}
#endif

#endif
