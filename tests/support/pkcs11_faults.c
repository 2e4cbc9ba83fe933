/* A PKCS#11 module that hands everything to the one named by FAULTS_BEHIND, and answers chosen calls
 * with an error: what no software token does by itself (locked PINs, pulled cables).
 * CK_FUNCTION_LIST is a version and 68 functions in the order of PKCS#11 v2.40. */
#include <dlfcn.h>
#include <stddef.h>
#include <stdlib.h>

#define CALLS 68
typedef unsigned long rv;
typedef rv (*call)(unsigned long, unsigned long, unsigned long, unsigned long, unsigned long,
                   unsigned long, unsigned long, unsigned long);
struct list {
    unsigned char version[2];
    call calls[CALLS];
};

static struct list own, *behind;
static struct { rv answer; int times, seen; } faults[CALLS];

/* The next `times` calls of function `n` answer `answer`; -1 is for ever. */
void fault(int n, rv answer, int times) {
    faults[n].answer = answer;
    faults[n].times = times;
}

int seen(int n) { return faults[n].seen; }

static rv pass(int n, unsigned long a, unsigned long b, unsigned long c, unsigned long d, unsigned long e,
               unsigned long f, unsigned long g, unsigned long h) {
    faults[n].seen++;
    if (faults[n].times != 0) {
        faults[n].times -= faults[n].times > 0;
        return faults[n].answer;
    }
    return behind->calls[n](a, b, c, d, e, f, g, h);
}

#define THROUGH(n)                                                                                      \
    static rv through_##n(unsigned long a, unsigned long b, unsigned long c, unsigned long d,           \
                          unsigned long e, unsigned long f, unsigned long g, unsigned long h) {         \
        return pass(n, a, b, c, d, e, f, g, h);                                                         \
    }
THROUGH(0)  /* C_Initialize */
THROUGH(5)  /* C_GetSlotInfo */
THROUGH(6)  /* C_GetTokenInfo */
THROUGH(12) /* C_OpenSession */
THROUGH(18) /* C_Login */
THROUGH(24) /* C_GetAttributeValue */
THROUGH(26) /* C_FindObjectsInit */
THROUGH(43) /* C_Sign */
THROUGH(59) /* C_GenerateKeyPair */

rv C_GetFunctionList(struct list **out) {
    void *module = dlopen(getenv("FAULTS_BEHIND"), RTLD_NOW);
    rv (*get)(struct list **) = module ? (rv (*)(struct list **))dlsym(module, "C_GetFunctionList") : NULL;
    if (get == NULL || get(&behind) != 0)
        return 5;
    own = *behind;
    own.calls[0] = through_0;
    own.calls[5] = through_5;
    own.calls[6] = through_6;
    own.calls[12] = through_12;
    own.calls[18] = through_18;
    own.calls[24] = through_24;
    own.calls[26] = through_26;
    own.calls[43] = through_43;
    own.calls[59] = through_59;
    *out = &own;
    return 0;
}
