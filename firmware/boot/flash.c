/* Flash controller, trailer and geometry of a bank. */
#include "boot/board.h"

#define FLAG_PHRASE_LOW (0xFFFFFF00u | FLAG_SET)
#define FLAG_PHRASE_HIGH 0xFFFFFFFFu

uint32_t slot_address(uint32_t base, enum stage stage)
{
    return base + (stage == STAGE_LOADER ? LOADER_OFFSET : APP_OFFSET);
}

uint32_t slot_size(enum stage stage)
{
    return stage == STAGE_LOADER ? LOADER_SIZE : APP_SIZE;
}

static uint32_t command(uint32_t bank, uint32_t offset, uint32_t what)
{
    reg_write(REG_FLASH_BANK, bank);
    reg_write(REG_FLASH_OFFSET, offset);
    reg_write(REG_FLASH_UNLOCK, FLASH_KEY);
    reg_write(REG_FLASH_COMMAND, what);
    return reg_read(REG_FLASH_STATUS);
}

uint32_t flash_erase(uint32_t bank, uint32_t offset)
{
    return command(bank, offset, FLASH_COMMAND_ERASE);
}

uint32_t flash_program(uint32_t bank, uint32_t offset, uint32_t low, uint32_t high)
{
    reg_write(REG_FLASH_DATA0, low);
    reg_write(REG_FLASH_DATA1, high);
    return command(bank, offset, FLASH_COMMAND_PROGRAM);
}

uint32_t flash_word(uint32_t address)
{
    const volatile uint8_t *const bytes = flash_at(address);
    return (uint32_t)bytes[0] | ((uint32_t)bytes[1] << 8) | ((uint32_t)bytes[2] << 16) |
           ((uint32_t)bytes[3] << 24);
}

uint32_t flash_set_flag(uint32_t bank, uint32_t from_end)
{
    return flash_program(bank, BANK_SIZE - from_end, FLAG_PHRASE_LOW, FLAG_PHRASE_HIGH);
}

static uint32_t flag_mark(const volatile uint8_t *phrase)
{
    const uint8_t flag = phrase[0];
    return flag == FLAG_SET ? MARK_SET : flag == FLAG_ERASED ? MARK_UNSET : MARK_BAD;
}

static uint32_t magic_mark(const volatile uint8_t *bytes)
{
    static const uint8_t magic[] = TRAILER_MAGIC;
    uint32_t differs = 0;
    uint32_t written = 0;
    for (uint32_t i = 0; i < sizeof magic; i++) {
        const uint8_t byte = bytes[i];
        differs |= (uint32_t)(byte ^ magic[i]);
        written |= (uint32_t)(byte ^ FLAG_ERASED);
    }
    return differs == 0 ? MARK_SET : written == 0 ? MARK_UNSET : MARK_BAD;
}

uint32_t bank_state(uint32_t base)
{
    /* volatile: a flag is read again after it was programmed through the controller. */
    const volatile uint8_t *const end = flash_at(base + BANK_SIZE - COPY_DONE_FROM_END);
    const uint32_t copy_done = flag_mark(end);
    const uint32_t image_ok = flag_mark(end + (COPY_DONE_FROM_END - IMAGE_OK_FROM_END));
    const uint32_t magic = magic_mark(end + (COPY_DONE_FROM_END - MAGIC_FROM_END));
    return BANK_STATES[magic][copy_done][image_ok];
}
