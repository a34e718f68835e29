/* What a small device does: shows the network an image, and takes the class with the largest answer. */
#include <stdio.h>

#include "network.h"

int main(void) {
    static float image[64], answer[10];
    int best = 0;
    /* An image of zeros here; on a device, what its camera gives, preprocessed as network.h says. */
    snn_run(image, answer);
    for (int i = 1; i < 10; ++i)
        if (answer[i] > answer[best]) best = i;
    printf("class %d after %d steps; %d bytes of memory, %d of constants\n", best, SNN_STEPS,
           SNN_STATE_BYTES + SNN_SCRATCH_BYTES, SNN_CONSTANT_BYTES);
    return 0;
}
