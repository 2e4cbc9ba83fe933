/* The one place of the handover. Target only. */
#include "handover.h"

__attribute__((section(".handover"))) struct handover handover;
