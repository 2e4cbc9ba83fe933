/*
 * Unicorn's hooks, natively: Python's would need a week for a thousand traces of six million steps.
 * The first run is recorded; each later one is compared with it while it runs, and summed up in
 * windows for the t-test. tracer.py has the same structure.
 */
#include <stdint.h>
#include <stdlib.h>

enum { STEPS, BRANCHES, MEMORY, STREAMS, VALUES = STREAMS, CHANNELS };
#define WINDOWS 256u
#define SITES 64u
#define FIRST_CAPACITY 4096u
#define NONE 0xFFFFFFFFu

struct stream {
    uint32_t *reference;
    uint32_t capacity;
    uint32_t recorded;  /* events of the reference */
    uint32_t count;     /* events of this run */
    uint32_t differing; /* of them, with another address than the reference's or with none there */
};

struct site {
    uint32_t stream;
    uint32_t at; /* address of the instruction */
};

struct tracer {
    struct stream streams[STREAMS];
    uint32_t recording;
    uint32_t failed; /* no memory for the reference */
    uint32_t step;   /* address of the instruction under way */
    uint32_t next;   /* where it goes if it is no branch */
    uint32_t diverged;
    uint32_t sites_count;
    struct site sites[SITES]; /* where runs came apart, each once; kept over runs */
    int64_t windows[CHANNELS][WINDOWS];
};

static void record(struct tracer *t, struct stream *s, uint32_t value)
{
    if (s->recorded == s->capacity) {
        const uint32_t capacity = s->capacity == 0 ? FIRST_CAPACITY : 2u * s->capacity;
        uint32_t *const larger = realloc(s->reference, (size_t)capacity * sizeof *larger);
        if (larger == NULL) {
            t->failed = 1;
            return;
        }
        s->reference = larger;
        s->capacity = capacity;
    }
    s->reference[s->recorded++] = value;
}

static void note(struct tracer *t, uint32_t stream, uint32_t at)
{
    for (uint32_t i = 0; i < t->sites_count; i++) {
        if (t->sites[i].stream == stream && t->sites[i].at == at) {
            return;
        }
    }
    if (t->sites_count < SITES) {
        t->sites[t->sites_count++] = (struct site){stream, at};
    }
}

/* The window of an event: its place in the reference. What is longer goes to the last. */
static uint32_t window_of(const struct stream *s)
{
    const uint32_t stride = (s->recorded + WINDOWS - 1u) / WINDOWS;
    const uint32_t window = stride == 0 ? 0 : s->count / stride;
    return window < WINDOWS ? window : WINDOWS - 1u;
}

/* 1 where the event is not the reference's. */
static int happen(struct tracer *t, uint32_t stream, uint32_t value)
{
    struct stream *const s = &t->streams[stream];
    if (t->recording != 0) {
        record(t, s, value);
        return 0;
    }
    const int differs = s->count >= s->recorded || s->reference[s->count] != value;
    t->windows[stream][window_of(s)] += value;
    s->count++;
    s->differing += (uint32_t)differs;
    return differs;
}

void tracer_step(void *engine, uint64_t address, uint32_t size, void *user)
{
    struct tracer *const t = user;
    const uint32_t before = t->step;
    const uint32_t at = (uint32_t)address;
    (void)engine;
    if (t->next != NONE && at != t->next) {
        (void)happen(t, BRANCHES, at);
    }
    if (happen(t, STEPS, at) != 0 && t->diverged == 0) {
        t->diverged = 1;
        note(t, STEPS, before);
    }
    t->step = at;
    t->next = at + size;
}

void tracer_access(void *engine, int type, uint64_t address, int size, int64_t value, void *user)
{
    struct tracer *const t = user;
    const uint64_t all = size >= 8 ? ~(uint64_t)0 : ((uint64_t)1 << (8 * size)) - 1u;
    const uint32_t window = window_of(&t->streams[MEMORY]);
    (void)engine;
    (void)type;
    if (t->recording == 0) {
        t->windows[VALUES][window] += __builtin_popcountll((uint64_t)value & all);
    }
    if (happen(t, MEMORY, (uint32_t)address) != 0 && t->diverged == 0) {
        note(t, MEMORY, t->step);
    }
}

void tracer_begin(struct tracer *t, uint32_t recording)
{
    t->recording = recording;
    t->step = NONE;
    t->next = NONE;
    t->diverged = 0;
    for (uint32_t stream = 0; stream < STREAMS; stream++) {
        t->streams[stream].count = 0;
        t->streams[stream].differing = 0;
        if (recording != 0) {
            t->streams[stream].recorded = 0;
            t->sites_count = 0;
        }
    }
    for (uint32_t channel = 0; channel < CHANNELS; channel++) {
        for (uint32_t window = 0; window < WINDOWS; window++) {
            t->windows[channel][window] = 0;
        }
    }
}

void tracer_free(struct tracer *t)
{
    for (uint32_t stream = 0; stream < STREAMS; stream++) {
        free(t->streams[stream].reference);
        t->streams[stream] = (struct stream){0};
    }
}
