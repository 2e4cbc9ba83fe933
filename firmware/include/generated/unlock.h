/* Generated from firmware/gen_headers.py by firmware/gen_headers.py: change it there. */
#pragma once

#define UNLOCK_DIGEST 0u
#define UNLOCK_KEY 1u
#define UNLOCK_SIGNATURE 2u
#define UNLOCK_COUNTER 3u
#define UNLOCK_HARDWARE 4u
#define UNLOCK_STEPS 5u

#define UNLOCK_SHARES \
    {{0x420f551cu, 0xa83c7936u, 0xc394bc55u, 0x1513d5c0u, 0xaf3990f5u}, \
     {0x82224328u, 0x973090d3u, 0x49a0b474u, 0x02e591d7u, 0x5a8431e9u}}

#define UNLOCK_SHARE_LOADER 0xb376d676u
#define UNLOCK_SHARE_APP 0x643b7121u
#define UNLOCK_SHARE_BANK 0x51abdc62u
#define UNLOCK_REST 0xefbf7d0eu
