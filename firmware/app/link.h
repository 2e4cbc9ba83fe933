/* The app's end of the update link: it tells, stores, and hands over to the update engine. */
#pragma once

/* Answer the request that waits, or go on with a digest that is under way. */
void link_cycle(void);
