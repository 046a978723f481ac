#include "runtime/text.h"

#include <string.h>

enum { MAX_WORD = 127 };

static int distance(const char *a, const char *b) {
    int row[MAX_WORD + 1];
    int la = (int)strlen(a), lb = (int)strlen(b);
    if (la > MAX_WORD || lb > MAX_WORD) return MAX_WORD;
    for (int j = 0; j <= lb; j++) row[j] = j;
    for (int i = 1; i <= la; i++) {
        int diagonal = row[0];
        row[0] = i;
        for (int j = 1; j <= lb; j++) {
            int best = diagonal + (a[i - 1] != b[j - 1]);
            if (row[j] + 1 < best) best = row[j] + 1;
            if (row[j - 1] + 1 < best) best = row[j - 1] + 1;
            diagonal = row[j];
            row[j] = best;
        }
    }
    return row[lb];
}

int weft_nearest(const char *word, const char *const *names, int count) {
    int best = -1, best_distance = (int)strlen(word) / 2 + 1;
    for (int i = 0; i < count; i++) {
        int d = distance(word, names[i]);
        if (d < best_distance) best = i, best_distance = d;
    }
    return best;
}
