// What a compiler does to C++: templates, lambdas, virtual calls, unnamed namespaces, exceptions, local classes.
#include <algorithm>
#include <cstdio>
#include <functional>
#include <map>
#include <memory>
#include <stdexcept>
#include <string>
#include <vector>

namespace shapes {

struct Shape {
  virtual ~Shape() = default;
  virtual double area() const = 0;
};

namespace {
struct Box : Shape {
  double width, height;
  Box(double w, double h) : width(w), height(h) {
    if (w < 0) throw std::invalid_argument("a box of negative width");
  }
  double area() const override { return width * height; }
};

double doubled(double x) { return x * 2; }
}

template <class T>
T sum(const std::vector<T>& all) {
  T total{};
  for (const auto& one : all) total += one;
  return total;
}

}

static std::map<std::string, int> count(const std::string& text) {
  struct Words {
    std::map<std::string, int> seen;
    void add(const std::string& word) { if (!word.empty()) seen[word]++; }
  } words;
  std::string word;
  std::for_each(text.begin(), text.end(), [&](char c) {
    if (c != ' ') { word += c; return; }
    words.add(word);
    word.clear();
  });
  words.add(word);
  return words.seen;
}

int main(int argc, char** argv) {
  std::vector<std::unique_ptr<shapes::Shape>> all;
  std::vector<double> areas;
  std::function<double(double)> change = [argc](double x) { return x + argc; };
  try {
    for (int i = 0; i < argc; i++) all.push_back(std::make_unique<shapes::Box>(argc - 2 * i, 2));
  } catch (const std::exception& error) {
    std::puts(error.what());
  }
  std::transform(all.begin(), all.end(), std::back_inserter(areas), [&](const auto& shape) { return change(shapes::doubled(shape->area())); });
  std::sort(areas.begin(), areas.end(), [](double a, double b) { return a > b; });
  for (const auto& [word, times] : count(argc > 1 ? argv[1] : "a b a")) std::printf("%s %d\n", word.c_str(), times);
  std::printf("%g\n", shapes::sum(areas));
}
