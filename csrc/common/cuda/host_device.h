// Index arithmetic and counting logic compile for the host too, where tests can run them.

#pragma once

#ifdef __CUDACC__
#define HYBATCH_HD __host__ __device__
#else
#define HYBATCH_HD
#endif
