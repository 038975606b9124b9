/* Status names and the error struct. */
#include "check.h"

int main(void) {
  CHECK(!strcmp(inf_status_name(INF_OK), "INF_OK"));
  CHECK(!strcmp(inf_status_name(INF_ERR_BUSY), "INF_ERR_BUSY"));
  CHECK(!strcmp(inf_status_name(INF_ERR_FORKED), "INF_ERR_FORKED"));
  CHECK(!strcmp(inf_status_name(25), "INF_ERR_UNKNOWN"));
  CHECK(!strcmp(inf_status_name((inf_status)-1), "INF_ERR_UNKNOWN"));

  CHECK(sizeof(inf_error) == 512);
  /* A failure fills the struct, whatever was in it; a success clears it; NULL is fine. */
  memset(&err, 0x5A, sizeof err);
  CHECK(inf_runtime_create(NULL, NULL, &err) == INF_ERR_INVALID_ARGUMENT);
  CHECK(err.status == INF_ERR_INVALID_ARGUMENT && err.reserved == 0 && err.detail[0] == 0 && err.detail[1] == 0);
  CHECK(!strcmp(err.message, "out: NULL"));
  CHECK(inf_runtime_create(NULL, NULL, NULL) == INF_ERR_INVALID_ARGUMENT);
  inf_runtime *rt = NULL;
  OK(inf_runtime_create(NULL, &rt, &err));
  CHECK(err.message[0] == 0);
  inf_runtime_free(rt);
  return 0;
}
