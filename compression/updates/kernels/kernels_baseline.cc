#include "compression/updates/kernels/kernels.h"

#define TERN_KERNEL_TABLE kBaselineKernels
#include "compression/updates/kernels/kernels-inl.h"
