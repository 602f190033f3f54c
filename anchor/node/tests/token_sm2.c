/* A token that signs SM2, for tests: SoftHSM with one mechanism more.
 *
 * Loads the module that TOKEN_MODULE names and hands all calls on to it. The vendor's mechanism
 * 0x80000011 it does itself, with the key in the PEM file TOKEN_KEY: SM2 over the 32 bytes that it
 * is given, with a new nonce each time, in DER. While the file TOKEN_GONE exists the token is away.
 */
#include <dlfcn.h>
#include <openssl/evp.h>
#include <openssl/pem.h>
#include <stdio.h>
#include <stdlib.h>
#include <string.h>
#include <unistd.h>

typedef unsigned long ulong_t;
struct mechanism { ulong_t mechanism; void *parameter; ulong_t length; };
/* CK_FUNCTION_LIST of PKCS#11 2.40: a version, then 68 functions. */
struct functions { unsigned char version[2]; void *call[68]; };
enum { OPEN_SESSION = 12, SIGN_INIT = 42, SIGN = 43 };
enum { OK = 0, FAILED = 6, REMOVED = 0x32, TOO_SMALL = 0x150, NO_OPERATION = 0x91 };
#define SM2_SIGN 0x80000011UL
#define LONGEST 72

static struct functions *inner, outer;
static int active;

static int gone(void) {
    const char *path = getenv("TOKEN_GONE");
    return path && access(path, F_OK) == 0;
}

static ulong_t open_session(ulong_t slot, ulong_t flags, void *a, void *b, ulong_t *session) {
    ulong_t (*call)(ulong_t, ulong_t, void *, void *, ulong_t *) = inner->call[OPEN_SESSION];
    return gone() ? REMOVED : call(slot, flags, a, b, session);
}

static ulong_t sign_init(ulong_t session, struct mechanism *mechanism, ulong_t key) {
    ulong_t (*call)(ulong_t, struct mechanism *, ulong_t) = inner->call[SIGN_INIT];
    if (gone()) return REMOVED;
    active = mechanism->mechanism == SM2_SIGN;
    return active ? OK : call(session, mechanism, key);
}

static ulong_t sm2(const unsigned char *e, ulong_t length, unsigned char *out, ulong_t *written) {
    FILE *file = fopen(getenv("TOKEN_KEY"), "r");
    EVP_PKEY *key = file ? PEM_read_PrivateKey(file, NULL, NULL, NULL) : NULL;
    EVP_PKEY_CTX *context = key ? EVP_PKEY_CTX_new(key, NULL) : NULL;
    size_t size = LONGEST;
    int good = context && EVP_PKEY_sign_init(context) == 1 &&
               EVP_PKEY_sign(context, out, &size, e, length) == 1;
    EVP_PKEY_CTX_free(context);
    EVP_PKEY_free(key);
    if (file) fclose(file);
    *written = size;
    return good ? OK : FAILED;
}

static ulong_t sign(ulong_t session, unsigned char *e, ulong_t length, unsigned char *out,
                    ulong_t *written) {
    ulong_t (*call)(ulong_t, unsigned char *, ulong_t, unsigned char *, ulong_t *) =
        inner->call[SIGN];
    if (!active) return call(session, e, length, out, written);
    if (!out) { *written = LONGEST; return OK; }
    if (*written < LONGEST) return TOO_SMALL;
    active = 0;
    return sm2(e, length, out, written);
}

ulong_t C_GetFunctionList(struct functions **list) {
    void *module = dlopen(getenv("TOKEN_MODULE"), RTLD_NOW);
    ulong_t (*get)(struct functions **) = module ? dlsym(module, "C_GetFunctionList") : NULL;
    if (!get || get(&inner) != OK) return FAILED;
    memcpy(&outer, inner, sizeof outer);
    outer.call[OPEN_SESSION] = open_session;
    outer.call[SIGN_INIT] = sign_init;
    outer.call[SIGN] = sign;
    *list = &outer;
    return OK;
}
