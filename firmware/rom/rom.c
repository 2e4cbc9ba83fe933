/*
 * The immutable first stage: choose a bank, verify its loader, commit what is confirmed, jump.
 *
 * Trailer flags and the images' own claims order the banks; only verification lets one run.
 */
#include "boot/board.h"
#include "boot/bootcount.h"
#include "boot/ladder.h"
#include "boot/record.h"
#include "boot/revocation.h"
#include "boot/tamper.h"
#include "boot/vaultblock.h"
#include "boot/wipe.h"
#include "update/engine.h"
#include "verify/bytes.h"

const uint32_t board_where = WHERE_ROM;

/* Before this stage has touched its RAM: a tamper event comes first (attack 26). */
void early(void);
void early(void)
{
    if (tamper_pending() != 0) {
        tamper_zeroise();
    }
}

/*
 * Instructions from here to the app's first feed. The largest app (1976 KiB) costs 81 M for its
 * digest and 12 M for its signature, the self-test below 1 M: twice that, rounded up.
 */
#define WATCHDOG_BOOT 200000000u

struct bank {
    uint32_t index;
    uint32_t base; /* where the bank is mapped after a reset */
    uint32_t state;
    uint32_t counter; /* of the app, not verified: it only orders */
    struct image_version version;
};

static void survey(uint32_t index, struct bank *out)
{
    struct image app;
    struct refusal why;
    *out = (struct bank){.index = index, .base = index == 0 ? ACTIVE_BASE : INACTIVE_BASE};
    out->state = bank_state(out->base);
    const uint8_t *const slot = flash_at(slot_address(out->base, STAGE_APP));
    if (image_decode(slot, slot_size(STAGE_APP), &app, &why) == STATUS_OK) {
        out->counter = image_counter(&app);
        out->version = app.version;
    }
}

static uint32_t newer(const struct bank *a, const struct bank *b)
{
    if (a->counter != b->counter) {
        return a->counter > b->counter ? NEWER_A : NEWER_B;
    }
    const int32_t order = image_version_compare(&a->version, &b->version);
    return order == 0 ? NEWER_SAME : order > 0 ? NEWER_A : NEWER_B;
}

/* Verify one image of a bank, which is mapped where it would run, and say why not. */
static uint32_t verify(const struct bank *bank, enum stage stage, struct verified *out)
{
    struct refusal why = {0};
    const uint32_t status = verify_active(stage, out, &why);
    if (status != STATUS_OK) {
        event(bank->index, status, why.expected, why.found);
    }
    return status;
}

/* PENDING: from here on the bank counts as started, whatever happens. */
static uint32_t start_trial(const struct bank *bank)
{
    uint32_t status = flash_set_flag(bank->index, COPY_DONE_FROM_END);
    if (status == STATUS_OK && bank_state(ACTIVE_BASE) != STATE_TRIAL) {
        status = STATUS_FLASH_READBACK;
    }
    if (status != STATUS_OK) {
        event(bank->index, status, STATE_TRIAL, bank_state(ACTIVE_BASE));
        return status;
    }
    milestone(MILESTONE_TRIAL_STARTED);
    return STATUS_OK;
}

/*
 * CONFIRMED: the commit. The counter moves only after both images passed, never above either's
 * (MCUboot #2282, #2549), and a burn that fails leaves the bank running but not committed.
 */
static uint32_t commit(const struct bank *bank, uint32_t loader_counter)
{
    struct verified app;
    if (commit_target(ACTIVE_BASE) <= otp_counter()) {
        return STATUS_OK;
    }
    uint32_t status = verify(bank, STAGE_APP, &app);
    if (status != STATUS_OK) {
        return status;
    }
    const uint32_t target = loader_counter < app.counter ? loader_counter : app.counter;
    status = otp_raise_counter(target);
    if (status != STATUS_OK) {
        event(bank->index, status, target, otp_counter());
        return STATUS_OK;
    }
    milestone(MILESTONE_COUNTER_RAISED);
    return STATUS_OK;
}

/* Everything a bank must pass before the jump. It is mapped first: what is verified is what is mapped
 * where it runs, and nothing is mapped between here and the jump. `vouch`: the app too, because the
 * other bank's was refused and a loader that refuses this one would only send us back. */
static uint32_t qualify(const struct bank *bank, uint32_t vouch, struct verified *loader)
{
    struct verified app;
    reg_write(REG_SYS_REMAP, bank->index);
    uint32_t status = verify(bank, STAGE_LOADER, loader);
    if (status == STATUS_OK && vouch != NO_BANK) {
        status = verify(bank, STAGE_APP, &app);
    }
    if (status != STATUS_OK) {
        return status;
    }
    switch (BANK_ACTIONS[bank->state]) {
    case ACTION_START:
        return start_trial(bank);
    case ACTION_RUN:
        return commit(bank, loader->counter);
    default:
        return STATUS_BANK_NOT_BOOTABLE;
    }
}

/* The keys that the next stage gets, and the ROM's own; zeros where the secret is gone. From here on
 * nobody reads it. */
static void derive(uint8_t record_key[SECRET_SIZE])
{
    uint8_t secret[SECRET_SIZE];

    wipe(record_key, SECRET_SIZE);
    handover = (struct handover){.lifecycle = otp_lifecycle()};
    if (handover.lifecycle < LIFECYCLE_TAMPERED) {
        otp_copy(OTP_DEVICE_SECRET_OFFSET, secret, sizeof secret);
        reg_write(REG_OTP_CTRL_HIDE_SECRET, 1);
        ladder_rom(secret, &handover, record_key);
        wipe(secret, sizeof secret);
    }
    reg_write(REG_OTP_CTRL_HIDE_SECRET, 1);
}

/* A block of the vault that was written since the last boot: no older one is taken from now on. */
static void commit_vault(void)
{
    uint8_t key[SECRET_SIZE];
    if (handover.lifecycle >= LIFECYCLE_TAMPERED) {
        return;
    }
    vault_key_from_stage(handover.stage_key, key);
    for (uint32_t name = 0; name < VAULT_NAMES; name++) {
        uint32_t committed = 0;
        (void)vault_commit(name, key, &committed); /* what is wrong with a block is the app's to tell */
        if (committed != 0) {
            milestone(MILESTONE_VAULT_COMMITTED);
        }
    }
    wipe(key, sizeof key);
}

/* A revocation waits for a bank that is confirmed and committed: the keys it is signed by stay. */
static void revoke(const struct bank *bank, const struct verified *loader)
{
    struct verified app;
    struct refusal why = {0};
    uint8_t in_use[2][DIGEST_SIZE];

    if (bank->state != STATE_CONFIRMED || commit_target(ACTIVE_BASE) > otp_counter() ||
        verify(bank, STAGE_APP, &app) != STATUS_OK) {
        return;
    }
    copy_bytes(in_use[0], loader->key_hash, DIGEST_SIZE);
    copy_bytes(in_use[1], app.key_hash, DIGEST_SIZE);
    const uint32_t status = revocation_carry_out(in_use, 2, &why);
    if (status == STATUS_OK) {
        milestone(MILESTONE_KEY_REVOKED);
    } else {
        event(bank->index, status, why.expected, why.found);
    }
}

/* Measured boot: what runs next, under a key that nothing after this function holds. The count is the
 * last that is written to its pages before they are locked. */
static void measure(const struct bank *bank, const struct verified *loader, uint8_t key[SECRET_SIZE])
{
    handover.boot_count = boot_count_next();
    record_measured(RECORD_BY_ROM, bank->index, loader, key, handover.rom_record);
    wipe(key, SECRET_SIZE);
}

static _Noreturn void launch(const struct bank *bank, struct verified *loader, uint8_t record_key[SECRET_SIZE],
                             uint32_t status)
{
    commit_vault();
    if (revocation_waits() != 0) {
        revoke(bank, loader);
    }
    measure(bank, loader, record_key);
    reg_write(REG_WATCHDOG_LOAD, WATCHDOG_BOOT);
    reg_write(REG_SYS_LOCK, 1);
    reg_write(REG_FLASH_PROTECT, FLASH_PROTECT_ACTIVE | FLASH_PROTECT_BOOT_COUNT);
    handover.loader.signed_size = loader->signed_size;
    copy_bytes(handover.loader.digest, loader->digest, DIGEST_SIZE);
    jump(STAGE_LOADER, bank->index, loader, status);
}

/* The bank whose app the loader has just refused, or NO_BANK. Read once, then cleared; a request for
 * the update engine is the loader's. */
static uint32_t refused_bank(void)
{
    const uint32_t retained = reg_read(REG_SYS_RETAIN);
    const uint32_t index = retained ^ RETAIN_REFUSED;
    if (retained == RETAIN_UPDATE) {
        return NO_BANK;
    }
    reg_write(REG_SYS_RETAIN, 0);
    if (index >= BANK_COUNT) {
        return NO_BANK;
    }
    event(index, STATUS_BANK_REFUSED_BY_LOADER, 0, retained);
    return index;
}

static _Noreturn void recovery(const struct bank *banks)
{
    contactors_open();
    event(0, STATUS_BANK_NONE_GOOD, STATE_CONFIRMED, (banks[0].state << 8) | banks[1].state);
    milestone(MILESTONE_RECOVERY);
    reg_write(REG_SYS_RETAIN, 0);
    reg_write(REG_SYS_REMAP, update_recovery_bank(banks[0].state, banks[1].state) ^ 1u);
    wipe(handover.stage_key, sizeof handover.stage_key);
    update_run(&(struct update_world){.where = WHERE_ROM, .scalar = handover.update_scalar});
}

int main(void)
{
    struct bank banks[BANK_COUNT];
    struct verified loader;
    uint8_t record_key[SECRET_SIZE];

    contactors_open();
    reg_write(REG_SYS_REMAP, 0);
    milestone(MILESTONE_ROM_ENTERED);
    derive(record_key);
    stack_wipe();
    const uint32_t refused = refused_bank();
    for (uint32_t i = 0; i < BANK_COUNT; i++) {
        survey(i, &banks[i]);
        if (banks[i].state == STATE_TRIAL) { /* started once, never confirmed: passed over */
            event(i, STATUS_BANK_NOT_BOOTABLE, STATE_CONFIRMED, STATE_TRIAL);
        }
    }
    const uint8_t *const order = BANK_ORDER[banks[0].state][banks[1].state][newer(&banks[0], &banks[1])];
    for (uint32_t i = 0; i < BANK_COUNT; i++) {
        if (order[i] >= BANK_COUNT || order[i] == refused) {
            continue;
        }
        const struct bank *const bank = &banks[order[i]];
        const uint32_t status = qualify(bank, refused, &loader);
        if (status == STATUS_OK) {
            launch(bank, &loader, record_key, status);
        }
    }
    wipe(record_key, sizeof record_key);
    recovery(banks);
}
