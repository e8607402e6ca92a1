// wgmma: operands that descriptors point to, read through the swizzle, by each warp for its own 16 rows. Warps of a
// warpgroup do not wait for each other.

#include <immintrin.h>

#include <cmath>
#include <string>

#include "block.h"
#include "watch.h"

namespace device_model {
namespace {

constexpr int kRows = 16;  // of a warp
constexpr int kColumns = 256;
constexpr int kMostTerms = 16;

int ElementBytes(ProductType type) { return type == ProductType::kTf32 ? 4 : 2; }

// The parts of a descriptor of the 128-byte swizzle; whatever else it could say is an error here.
struct Descriptor {
  uint32_t start;
  uint32_t leading;  // bytes from 64 lines to the next where lines are neighbours
  uint32_t stride;   // bytes from 8 rows of 128 bytes to the next 8

  explicit Descriptor(uint64_t bits) {
    const auto field = [&](int first) { return static_cast<uint32_t>(bits >> first & 0x3fff) << 4; };
    start = field(0);
    leading = field(16);
    stride = field(32);
    if (bits >> 62 != 1) Fail("a wgmma descriptor is not of the 128-byte swizzle");
    if ((bits & 0x3ffec000c000c000u) != 0) Fail("a wgmma descriptor has bits where none may be");
    if (start % 1024 >= 128) Fail("a wgmma operand does not begin in the first row of a 1024-byte pattern");
  }
};

// 16 bytes of an operand, which the swizzle moves as a whole: neighbouring terms of a line, or if `turned` neighbouring
// lines of a term.
const unsigned char* Piece(const Descriptor& descriptor, bool turned, int bytes, int line, int term) {
  const auto l = static_cast<uint32_t>(line), t = static_cast<uint32_t>(term), size = static_cast<uint32_t>(bytes);
  const uint32_t lines_of_row = 128 / size;
  const uint32_t offset = turned ? l % lines_of_row * size + l / lines_of_row * descriptor.leading + t % 8 * 128 +
                                       t / 8 * descriptor.stride
                                 : l % 8 * 128 + l / 8 * descriptor.stride + t * size;
  const uint32_t address = descriptor.start + offset;
  const uint32_t swizzled = address ^ (address >> 7 & 7) << 4;
  Reads(block->At(swizzled, 16), 16);
  return block->ProxyAt(swizzled, 16);
}

// As values, those of a 16-byte piece.
void Values(ProductType type, const unsigned char* piece, float (&values)[8]) {
  if (type == ProductType::kTf32) {
    uint32_t bits[4];
    std::memcpy(bits, piece, sizeof bits);
    for (int i = 0; i < 4; ++i) values[i] = std::bit_cast<float>(bits[i] & ~0x1fffu);
  } else if (type == ProductType::kBFloat16) {
    uint16_t bits[8];
    std::memcpy(bits, piece, sizeof bits);
    for (int i = 0; i < 8; ++i) values[i] = std::bit_cast<float>(static_cast<uint32_t>(bits[i]) << 16);
  } else {
    _mm256_storeu_ps(values, _mm256_cvtph_ps(_mm_loadu_si128(reinterpret_cast<const __m128i*>(piece))));
  }
}

// store(line, term, value) for all lines first .. first + count - 1.
template <class Store>
void ReadOperand(uint64_t bits, bool turned, ProductType type, int first, int count, Store store) {
  const Descriptor descriptor(bits);
  const int bytes = ElementBytes(type), terms = 32 / bytes, together = 16 / bytes;
  float values[8];
  for (int line = 0; line < count; line += turned ? together : 1) {
    for (int term = 0; term < terms; term += turned ? 1 : together) {
      Values(type, Piece(descriptor, turned, bytes, first + line, term), values);
      for (int i = 0; i < together; ++i) store(turned ? line + i : line, turned ? term : term + i, values[i]);
    }
  }
}

float CutToFloat(double value) {
  const auto nearest = static_cast<float>(value);
  return std::abs(nearest) > std::abs(value) ? std::nextafter(nearest, 0.0f) : nearest;
}

// Tensor cores of the kind that `options` describe.
float AddCut(float accumulator, const float* left, const double* right, int right_stride, int terms) {
  for (int first = 0; first < terms; first += options.group) {
    double all[kMostTerms + 1] = {accumulator}, largest = std::abs(accumulator), plain = accumulator;
    int count = 1;
    for (int term = first; term < std::min(terms, first + options.group); ++term) {
      all[count] = left[term] * right[term * right_stride];
      plain += all[count];
      largest = std::max(largest, std::abs(all[count++]));
    }
    if (!std::isfinite(plain)) {
      accumulator = static_cast<float>(plain);
      continue;
    }
    if (largest == 0) continue;
    const double last_place = std::ldexp(1.0, std::ilogb(largest) - options.bits);
    double places = 0;
    for (int i = 0; i < count; ++i) {
      places += options.downwards ? std::floor(all[i] / last_place) : std::trunc(all[i] / last_place);
    }
    accumulator = CutToFloat(places * last_place);
  }
  return accumulator;
}

void Issue(ptx::Accumulators& results, uint64_t left, uint64_t right, int accumulate, ProductType type,
           bool left_turned, bool right_turned) {
  const uint64_t* accumulators = Exchange(Collective::kProduct, 0xffffffffu, reinterpret_cast<uintptr_t>(&results));
  const Unwatched unwatched;
  Product product = {{}, left, right, accumulate != 0, type, left_turned, right_turned, block->running().warp()};
  for (int lane = 0; lane < 32; ++lane) product.accumulators[lane] = reinterpret_cast<float*>(accumulators[lane]);
  const auto same_in_all_lanes = [](uint64_t value) {
    const uint64_t* all = Exchange(Collective::kProduct, 0xffffffffu, value);
    return std::count(all, all + 32, value) == 32;
  };
  if (!same_in_all_lanes(left) || !same_in_all_lanes(right << 1 | product.accumulate)) {
    Fail("lanes of a warp give wgmma different operands");
  }
  if (block->running().lane() != 0) return;
  WarpProducts& products = block->products();
  if (!products.fenced) Fail("wgmma before wgmma.fence");
  block->CheckSameProduct(product, products.issued++);
  if (block->manners().products_at_once) {
    RunProduct(product);
  } else {
    products.open.push_back(product);
  }
}

}  // namespace

void Block::CheckSameProduct(const Product& product, size_t number) {
  auto& issued = issued_[static_cast<size_t>(product.warp / 4)];
  const std::pair operands(product.left, product.right);
  if (number == issued.size()) {
    issued.push_back(operands);
  } else if (issued[number] != operands) {
    Fail("warps of a warpgroup issue different products");
  }
}

void RunProduct(const Product& product) {
  static float left[kRows][kMostTerms];
  static double right[kMostTerms][kColumns];
  const int terms = 32 / ElementBytes(product.type);
  ReadOperand(product.left, product.left_turned, product.type, product.warp % 4 * kRows, kRows,
              [](int line, int term, float value) { left[line][term] = value; });
  ReadOperand(product.right, product.right_turned, product.type, 0, kColumns,
              [](int line, int term, float value) { right[term][line] = value; });
  for (int row = 0; row < kRows; ++row) {
    double sums[kColumns] = {};
    for (int term = 0; term < terms && options.group == 0; ++term) {
      const double factor = left[row][term];
      for (int column = 0; column < kColumns; ++column) sums[column] += factor * right[term][column];
    }
    for (int column = 0; column < kColumns; ++column) {
      // Which lane holds a result in which register, the PTX manual draws: figure "D fragment" of .m64nNk16.
      float& result = product.accumulators[row % 8 * 4 + column % 8 / 2][column / 8 * 4 + row / 8 * 2 + column % 2];
      const float before = product.accumulate ? result : 0.0f;
      result = options.group == 0 ? static_cast<float>(before + sums[column])
                                  : AddCut(before, left[row], &right[0][column], kColumns, terms);
    }
  }
}

namespace ptx {

void WgmmaFence() {
  Exchange(Collective::kProductFence, 0xffffffffu, 0);
  block->products().fenced = true;
}

void WgmmaCommitGroup() {
  Exchange(Collective::kProductCommit, 0xffffffffu, 0);
  const Unwatched unwatched;
  if (block->running().lane() != 0) return;
  WarpProducts& products = block->products();
  products.groups.push_back(std::move(products.open));
  products.open.clear();
  products.fenced = false;
}

void WgmmaWaitGroup(int pending) {
  Exchange(Collective::kProductWait, 0xffffffffu, static_cast<uint64_t>(pending));
  const Unwatched unwatched;
  WarpProducts& products = block->products();
  while (products.groups.size() > static_cast<size_t>(pending)) {
    for (const Product& product : products.groups.front()) RunProduct(product);
    products.groups.erase(products.groups.begin());
  }
  // What the warp's products have read, all its lanes have: any of them may give it back.
  Release(&products);
  Exchange(Collective::kProductWait, 0xffffffffu, static_cast<uint64_t>(pending));
  Acquire(&products);
}

void WgmmaBf16(Accumulators& results, uint64_t left, uint64_t right, int accumulate, int left_turned,
               int right_turned) {
  Issue(results, left, right, accumulate, ProductType::kBFloat16, left_turned != 0, right_turned != 0);
}
void WgmmaF16(Accumulators& results, uint64_t left, uint64_t right, int accumulate, int left_turned, int right_turned) {
  Issue(results, left, right, accumulate, ProductType::kFloat16, left_turned != 0, right_turned != 0);
}
void WgmmaTf32(Accumulators& results, uint64_t left, uint64_t right, int accumulate) {
  Issue(results, left, right, accumulate, ProductType::kTf32, false, false);
}

}  // namespace ptx
}  // namespace device_model
