// Loads a model, lets it continue a text, and prints what it says. Usage: hello model.gguf ["The smith"]
#include "inference.hpp"
#include <iostream>

namespace inf = inference;

int main(int argc, char **argv) try {
  std::string_view path = argc > 1 ? argv[1] : "models/demo.gguf", prompt = argc > 2 ? argv[2] : "The smith";
  inf::Model model = inf::Runtime::create().load(path);
  inf::Session session = model.new_session();

  std::cout << prompt;
  for (const inf::Event &event : session.generate({ prompt, 80 })) {
    std::cout << event.text() << std::flush;
    if (event.type() == inf::EventType::done) std::cout << "\n[" << event.raw().output_tokens << " tokens]\n";
  }
} catch (const std::exception &error) {
  std::cerr << error.what() << '\n';
  return 1;
}
