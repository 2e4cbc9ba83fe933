#include "calibration.h"

#include "boot/board.h"
#include "boot/vaultblock.h"
#include "boot/wipe.h"
#include "handover.h"
#include "verify/bytes.h"

#define GAIN_MAX_PPM 100000
#define OFFSET_MAX_MA 10000
#define CELL_MIN_MV 1000u
#define CELL_MAX_MV 5000u
#define MILLION 1000000

/* Uncalibrated, the sensor may be a quarter off. */
#define DERATED(ma) ((ma) / 4 * 3)

struct calibration {
    int32_t gain_ppm;
    int32_t offset_ma;
    uint32_t cell_over_mv;
    uint32_t cell_under_mv;
};

static struct calibration current;
static struct limits in_force;
static uint32_t loaded;

static struct calibration decode(const uint8_t *value)
{
    return (struct calibration){(int32_t)read_u32(value), (int32_t)read_u32(value + 4), read_u32(value + 8),
                                read_u32(value + 12)};
}

uint32_t calibration_check(const uint8_t *value, uint32_t length)
{
    if (length != CALIBRATION_SIZE) {
        return STATUS_LINK_FRAME;
    }
    const struct calibration it = decode(value);
    if (it.gain_ppm < -GAIN_MAX_PPM || it.gain_ppm > GAIN_MAX_PPM || it.offset_ma < -OFFSET_MAX_MA ||
        it.offset_ma > OFFSET_MAX_MA || it.cell_under_mv < CELL_MIN_MV || it.cell_over_mv > CELL_MAX_MV ||
        it.cell_under_mv >= it.cell_over_mv) {
        return STATUS_LINK_FRAME;
    }
    return STATUS_OK;
}

static void apply_default(void)
{
    current = (struct calibration){0};
    in_force = limits;
    in_force.discharge_ma = DERATED(limits.discharge_ma);
    in_force.charge_ma = DERATED(limits.charge_ma);
}

static void apply(const uint8_t *value)
{
    current = decode(value);
    in_force = limits;
    if (current.cell_over_mv < limits.cell_over_mv) {
        in_force.cell_over_mv = current.cell_over_mv;
    }
    if (current.cell_under_mv > limits.cell_under_mv) {
        in_force.cell_under_mv = current.cell_under_mv;
    }
}

/* At the plant, none yet is no news; a tampered module has lost its keys, and has said so. */
static uint32_t worth_telling(uint32_t status, uint32_t lifecycle)
{
    return lifecycle == LIFECYCLE_PRODUCTION ||
           (lifecycle == LIFECYCLE_PROVISIONED && status != STATUS_VAULT_MISSING);
}

void calibration_load(uint32_t bank)
{
    static struct vault_value value;
    uint32_t status = vault_open(VAULT_CALIBRATION, handover.vault_key, &value);
    if (status == STATUS_OK && calibration_check(value.bytes, value.length) != STATUS_OK) {
        status = STATUS_VAULT_SEAL;
    }
    loaded = 1;
    if (status == STATUS_OK) {
        apply(value.bytes);
    } else {
        apply_default();
        if (worth_telling(status, otp_lifecycle()) != 0) {
            event(bank, status, CALIBRATION_SIZE, value.length);
        }
    }
    wipe(&value, sizeof value);
}

const struct limits *limits_now(void)
{
    return loaded != 0 ? &in_force : &limits;
}

int32_t calibrated_ma(int32_t measured_ma)
{
    const int64_t gained = (int64_t)measured_ma * (MILLION + current.gain_ppm) / MILLION + current.offset_ma;
    return gained > INT32_MAX ? INT32_MAX : gained < INT32_MIN ? INT32_MIN : (int32_t)gained;
}
