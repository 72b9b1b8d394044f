/* What a compiler does to C: inlining, static and recursive functions, calls through pointers, a cold branch. */
#include <stdio.h>
#include <stdlib.h>
#include <string.h>

struct entry {
  struct entry *next;
  int value;
};

static inline int clamp(int value, int low, int high) {
  return value < low ? low : value > high ? high : value;
}

static int weigh(const char *text, int length) {
  int sum = 0;
  for (int i = 0; i < length; i++) sum += clamp(text[i] * i, -100, 100);
  return sum;
}

__attribute__((cold, noinline)) static void give_up(const char *why) {
  fprintf(stderr, "ledger: %s\n", why);
  exit(1);
}

static struct entry *push(struct entry *list, int value) {
  struct entry *entry = malloc(sizeof *entry);
  if (!entry) give_up("no memory");
  entry->next = list;
  entry->value = value;
  return entry;
}

static int total(const struct entry *list) {
  return list ? clamp(list->value, -1000, 1000) + total(list->next) : 0;
}

static int by_value(const void *left, const void *right) {
  return *(const int *)left - *(const int *)right;
}

typedef int (*rule)(int);
static int twice(int x) { return x * 2; }
static int square(int x) { return x * x; }
static int digits(int x) { int n = 0; do { n++; x /= 10; } while (x); return n; }
static const rule RULES[] = { twice, square, digits };

int apply(int which, int x) {
  switch (which % 5) {
    case 0: case 1: case 2: return RULES[which % 3](x);
    case 3: return weigh("constant", 8) + x;
    default: return x < 0 ? -x : x;
  }
}

int main(int argc, char **argv) {
  struct entry *list = NULL;
  int values[16];
  for (int i = 0; i < argc && i < 16; i++) {
    list = push(list, weigh(argv[i], (int)strlen(argv[i])));
    values[i] = apply(i, list->value);
  }
  qsort(values, argc < 16 ? argc : 16, sizeof values[0], by_value);
  printf("%d %d\n", total(list), values[0]);
  return 0;
}
