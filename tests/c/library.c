/* Versions and build info. */
#include "check.h"

int main(void) {
  char version[32];
  snprintf(version, sizeof version, "%d.%d.%d", INF_VERSION_MAJOR, INF_VERSION_MINOR, INF_VERSION_PATCH);
  CHECK(!strcmp(inf_version(), version));
  CHECK(inf_version() == inf_version());
  CHECK(inf_abi_version() == INF_ABI_VERSION);
  const char *info = inf_build_info_json();
  CHECK(info[0] == '{' && info[strlen(info) - 1] == '}');
  CHECK(strstr(info, "\"gguf\"") && strstr(info, "\"llama\"") && strstr(info, "\"scalar\""));
  CHECK(strstr(info, version));
  return 0;
}
