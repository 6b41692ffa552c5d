/* A bank's host, in C: verifies a receipt for what it is about to do, and redeems it once.
 *
 *   cc -I src/verifier src/verifier/examples/host.c -L target/release -ltulga -o host
 *   ./host KEYS_DIR TRUST RECEIPT SALT_HEX REDEEMED_FILE NOW_MS AMOUNT_MINOR
 *
 * The rest of the transaction is what the frozen vectors are of (tests/fixtures/vectors).
 */
#include <stdio.h>
#include <stdlib.h>
#include <string.h>

#include "tulga_verifier.h"

static size_t read_file(const char *folder, const char *name, char *to, size_t room) {
    char path[4096];
    snprintf(path, sizeof path, "%s%s%s", folder, *folder ? "/" : "", name);
    FILE *file = fopen(path, "rb");
    if (!file) {
        perror(path);
        exit(1);
    }
    size_t length = fread(to, 1, room - 1, file);
    fclose(file);
    to[length] = 0;
    return length;
}

static void read_salt(const char *hex, uint8_t salt[32]) {
    for (int at = 0; at < 32; at++) {
        unsigned byte = 0;
        if (sscanf(hex + 2 * at, "%2x", &byte) != 1) {
            fprintf(stderr, "a salt is 64 hexadecimal digits\n");
            exit(1);
        }
        salt[at] = (uint8_t)byte;
    }
}

int main(int argc, char **argv) {
    if (argc != 8 || strlen(argv[4]) != 64) {
        fprintf(stderr, "KEYS_DIR TRUST RECEIPT SALT_HEX REDEEMED_FILE NOW_MS AMOUNT_MINOR\n");
        return 1;
    }
    static char keys[1 << 22], signature[1024], jws[1 << 15];
    char error[256];
    uint8_t salt[32];
    size_t keys_len = read_file(argv[1], "keys.json", keys, sizeof keys);
    read_file(argv[1], "keys.json.sig", signature, sizeof signature);
    size_t jws_len = read_file("", argv[3], jws, sizeof jws);
    while (jws_len > 0 && jws[jws_len - 1] == '\n') jws_len--;
    read_salt(argv[4], salt);
    int64_t now_ms = strtoll(argv[6], NULL, 10);

    tulga_verifier *verifier = NULL;
    int code = tulga_verifier_new((const uint8_t *)keys, keys_len, signature, argv[2], "host.bank.example", argv[5],
                                  now_ms, &verifier, error, sizeof error);
    if (code != TULGA_OK) {
        fprintf(stderr, "%d: %s\n", code, error);
        return 1;
    }

    /* What the host knows itself, from its own records: nothing of it comes from the receipt. */
    tulga_demand demand = {
        .host_transaction_id = "20261121000417",
        .business_date = "2026-11-21",
        .attempt = 1,
        .account = "acct-4711",
        .counterparty = NULL,
        .terminal = "ATM-004211",
        .operation = "cash_withdrawal",
        .amount_minor = strtoll(argv[7], NULL, 10),
        .currency = "KZT",
    };

    /* The first time it may be authorised; asked again, it was redeemed. */
    for (int turn = 0; turn < 2; turn++) {
        tulga_authorised authorised;
        code = tulga_verifier_verify(verifier, (const uint8_t *)jws, jws_len, salt, &demand, now_ms, &authorised,
                                     error, sizeof error);
        if (code == TULGA_OK)
            printf("authorised %lld of at most %lld\n", (long long)authorised.amount_minor,
                   (long long)authorised.amount_max_minor);
        else
            printf("%d: %s\n", code, error);
    }
    tulga_verifier_free(verifier);
    return 0;
}
