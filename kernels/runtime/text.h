/* Small helpers for names and messages. */
#ifndef WEFT_TEXT_H
#define WEFT_TEXT_H

/* For "did you mean": index of the name nearest to `word` by edit distance, or -1 when none is near. */
int weft_nearest(const char *word, const char *const *names, int count);

#endif
