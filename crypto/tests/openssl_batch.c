/* Signs and verifies SM2 signatures with OpenSSL, many in one process, for openssl_batch.rs.
 *
 * Each line of standard input is one task, its arguments in hex:
 *   sign <PKCS#8 in DER> <message>                     answers the signature in DER
 *   verify <SPKI in DER> <message> <signature in DER>  answers 1 or 0
 * The answers come in order, one a line. Anything else that goes wrong ends the process with 1.
 */
#include <openssl/evp.h>
#include <openssl/x509.h>
#include <stdio.h>
#include <stdlib.h>
#include <string.h>

static const char ID[] = "1234567812345678";

struct bytes {
    unsigned char *data;
    long length;
};

static void stop(const char *what) {
    fprintf(stderr, "openssl_batch: %s failed\n", what);
    exit(1);
}

/* The next argument of the line. */
static struct bytes argument(void) {
    struct bytes found = {NULL, 0};
    char *hex = strtok(NULL, " \n");
    if (hex == NULL || (found.data = OPENSSL_hexstr2buf(hex, &found.length)) == NULL)
        stop("reading an argument");
    return found;
}

/* A context that hashes with SM3 and knows the id. */
static EVP_MD_CTX *context(EVP_PKEY *key, int sign) {
    EVP_MD_CTX *md = EVP_MD_CTX_new();
    EVP_PKEY_CTX *inner = EVP_PKEY_CTX_new(key, NULL);
    if (md == NULL || inner == NULL || EVP_PKEY_CTX_set1_id(inner, ID, (int)strlen(ID)) <= 0)
        stop("EVP_PKEY_CTX_set1_id");
    EVP_MD_CTX_set_pkey_ctx(md, inner);
    int done = sign ? EVP_DigestSignInit(md, NULL, EVP_sm3(), NULL, key)
                    : EVP_DigestVerifyInit(md, NULL, EVP_sm3(), NULL, key);
    if (done != 1)
        stop("EVP_Digest…Init");
    return md;
}

static void release(EVP_MD_CTX *md, EVP_PKEY *key) {
    EVP_PKEY_CTX *inner = EVP_MD_CTX_get_pkey_ctx(md);
    EVP_MD_CTX_free(md);
    EVP_PKEY_CTX_free(inner);
    EVP_PKEY_free(key);
}

static void sign(void) {
    struct bytes secret = argument(), message = argument();
    const unsigned char *at = secret.data;
    EVP_PKEY *key = d2i_AutoPrivateKey(NULL, &at, secret.length);
    if (key == NULL || at != secret.data + secret.length)
        stop("d2i_AutoPrivateKey");
    EVP_MD_CTX *md = context(key, 1);
    unsigned char signature[80];
    size_t length = sizeof signature;
    if (EVP_DigestSign(md, signature, &length, message.data, (size_t)message.length) != 1)
        stop("EVP_DigestSign");
    for (size_t i = 0; i < length; i++)
        printf("%02x", signature[i]);
    printf("\n");
    release(md, key);
    OPENSSL_free(secret.data);
    OPENSSL_free(message.data);
}

static void verify(void) {
    struct bytes public = argument(), message = argument(), signature = argument();
    const unsigned char *at = public.data;
    EVP_PKEY *key = d2i_PUBKEY(NULL, &at, public.length);
    if (key == NULL || at != public.data + public.length)
        stop("d2i_PUBKEY");
    EVP_MD_CTX *md = context(key, 0);
    int holds = EVP_DigestVerify(md, signature.data, (size_t)signature.length, message.data,
                                 (size_t)message.length);
    printf("%d\n", holds == 1);
    release(md, key);
    OPENSSL_free(public.data);
    OPENSSL_free(message.data);
    OPENSSL_free(signature.data);
}

int main(void) {
    static char line[1 << 16];
    while (fgets(line, sizeof line, stdin) != NULL) {
        const char *task = strtok(line, " \n");
        if (task != NULL && strcmp(task, "sign") == 0)
            sign();
        else if (task != NULL && strcmp(task, "verify") == 0)
            verify();
        else
            stop("reading a task");
    }
    return 0;
}
