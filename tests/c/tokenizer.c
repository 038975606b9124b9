/* The tokenizer: round trips, sizes, control tokens, bytes of tokens. */
#include "check.h"

static void round_trip(inf_model *m, const char *text) {
  inf_token tokens[256];
  char back[512];
  size_t n = 0, len = 0, wanted = 0;
  OK(inf_tokenize(m, text, INF_NUL, 0, tokens, 256, &n, &err));
  OK(inf_tokenize(m, text, strlen(text), 0, NULL, 0, &wanted, &err));
  CHECK(wanted == n);
  OK(inf_detokenize(m, tokens, n, 0, back, sizeof back, &len, &err));
  CHECK(len == strlen(text) && !strcmp(back, text));
  /* The pieces are the text, up to a space that some vocabularies put in front. */
  char pieces[512] = "";
  for (size_t i = 0; i < n; i++) {
    char piece[128];
    OK(inf_token_bytes(m, tokens[i], piece, sizeof piece, &len, &err));
    CHECK(len > 0);
    strcat(pieces, piece);
  }
  CHECK(!strcmp(pieces + (strlen(pieces) - strlen(text)), text));
}

int main(int argc, char **argv) {
  inf_runtime *rt = open_runtime(argc, argv);
  inf_model *m = open_model(rt, argv);
  inf_model_info info = { .struct_size = sizeof info };
  OK(inf_model_get_info(m, &info, &err));

  round_trip(m, "The old mill stands by the river.");
  round_trip(m, "Gr\xC3\xBC\xC3\x9F""e, \xE4\xBD\xA0\xE5\xA5\xBD \xF0\x9F\x99\x82!");
  round_trip(m, "");

  inf_token tokens[64], again[64];
  size_t n = 0, n_again = 0, len = 0;
  char text[64];
  /* A control token that a user writes stays text, unless the host asks. */
  OK(inf_token_bytes(m, info.eos, text, sizeof text, &len, &err));
  CHECK(len > 0);
  OK(inf_tokenize(m, text, len, 0, tokens, 64, &n, &err));
  for (size_t i = 0; i < n; i++) CHECK(tokens[i] != info.eos);
  OK(inf_tokenize(m, text, len, INF_TOK_PARSE_SPECIAL, tokens, 64, &n, &err));
  CHECK(n >= 1 && tokens[n - 1] == info.eos);
  OK(inf_detokenize(m, &info.eos, 1, 0, text, sizeof text, &len, &err));
  CHECK(len == 0);
  OK(inf_detokenize(m, &info.eos, 1, INF_TOK_PARSE_SPECIAL, text, sizeof text, &len, &err));
  CHECK(len > 0);
  /* What continues a text keeps its first space. */
  OK(inf_tokenize(m, "one two", INF_NUL, 0, tokens, 64, &n, &err));
  CHECK(n >= 2);
  size_t start = n, whole = 0;
  do OK(inf_token_bytes(m, tokens[--start], text, sizeof text, &len, &err)); while (start > 0 && text[0] != ' ');
  OK(inf_detokenize(m, tokens + start, n - start, INF_TOK_CONTINUES, text, sizeof text, &whole, &err));
  CHECK(text[0] == ' ' || start == 0);
  INVALID(inf_detokenize(m, tokens, n, INF_TOK_ADD_SPECIAL, text, sizeof text, &len, &err));
  /* Special tokens around a text are there or not, and the rest is the same. */
  OK(inf_tokenize(m, "word", 4, 0, tokens, 64, &n, &err));
  OK(inf_tokenize(m, "word", 4, INF_TOK_ADD_SPECIAL, again, 64, &n_again, &err));
  CHECK(n_again >= n);

  memset(tokens, 0xEE, sizeof tokens);
  STATUS(INF_ERR_BUFFER_TOO_SMALL, inf_tokenize(m, "one two three four", INF_NUL, 0, tokens, 1, &n, &err));
  CHECK(n > 1 && tokens[0] == (inf_token)0xEEEEEEEE);
  INVALID(inf_tokenize(m, NULL, 3, 0, tokens, 64, &n, &err));
  INVALID(inf_tokenize(m, "x", 1, 0x80, tokens, 64, &n, &err));
  INVALID(inf_tokenize(m, "x", 1, 0, NULL, 64, &n, &err));
  INVALID(inf_tokenize(m, "x", 1, 0, tokens, 64, NULL, &err));
  const inf_token bad[] = { -1, 2147483647 };
  for (size_t i = 0; i < 2; i++) {
    INVALID(inf_detokenize(m, &bad[i], 1, 0, text, sizeof text, &len, &err));
    INVALID(inf_token_bytes(m, bad[i], text, sizeof text, &len, &err));
  }
  inf_model_free(m);
  inf_runtime_free(rt);
  return 0;
}
