/* Programs with one mistake each, of the kind that a GPU may let pass. */
#ifndef WEFT_EMULATION_BROKEN_H
#define WEFT_EMULATION_BROKEN_H

typedef struct broken_program {
    const char *name;
    /* Ends the process, or returns having printed "wrong result". */
    void (*run)(void);
    /* Part of what must be printed in a build without sanitizers, with ASan, with TSan; NULL where the
     * mistake is not seen. */
    const char *plain, *address, *thread;
    const char *undefined; /* instead, in a build with UBSan */
} broken_program;

extern const broken_program broken_programs[]; /* ends with a name of NULL */

#endif
