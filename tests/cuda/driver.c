/* A driver of NVIDIA's that is not one: compiled as libcuda.so.1, with what DRIVER says.
 *   EMPTY    none of its functions
 *   OLD      of CUDA 12.2
 *   NONE     a driver without a GPU
 *   BROKEN   one GPU, and nothing that can be done with it */
#ifndef EMPTY
#  ifdef OLD
#    define VERSION 12020
#  else
#    define VERSION 99000
#  endif

int cuDriverGetVersion(int *version) {
  *version = VERSION;
  return 0;
}

int cuInit(unsigned flags) {
  (void)flags;
#  ifdef NONE
  return 100; /* CUDA_ERROR_NO_DEVICE */
#  else
  return 0;
#  endif
}

int cuDeviceGetCount(int *n) {
  *n = 1;
  return 0;
}

int cuDeviceGet(int *device, int i) {
  *device = i;
  return 0;
}

int cuDevicePrimaryCtxRetain(void **context, int device) {
  (void)context, (void)device;
  return 999; /* CUDA_ERROR_UNKNOWN */
}
#endif

int nobody_asks_for_this;
