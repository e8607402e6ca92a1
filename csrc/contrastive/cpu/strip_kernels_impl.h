// Generic bodies of the strip kernels, instantiated by one translation unit per instruction set. As in the tile
// kernels, nothing here may end up in a function that the linker could share between those units.
//
// A `Vector` gives: Register, kWidth, Load, Store, Set, Add, Sub, Mul, Fma, Min and Max (which return their second
// operand where one is NaN), LargestOf, SumOf, TimesPowerOfTwo (of an integer in the last bits of a float),
// ZeroWhereBelow, ReplaceEqual, and WhereEqual (by keys).

#pragma once

#include "common/cpu/row_values_impl.h"
#include "strip_kernels.h"

namespace hybatch::contrastive::cpu {
namespace {

constexpr float kMinusInfinity = -__builtin_inff();

// exp to about 1 unit in the last place: x = n ln 2 + r with |r| <= ln 2 / 2, and a polynomial of degree 7 fitted to
// the relative error on that interval. Results below the smallest normal number become 0, those above 2^127 stay
// there, NaN stays NaN.
template <class Vector>
typename Vector::Register Exp(typename Vector::Register x) {
  constexpr float kLowest = -87.33654f, kHighest = 88.0f;
  constexpr float kToInteger = 12582912.0f;  // 1.5 * 2^23: sums with it have the integer in their last bits
  constexpr float kLog2E = 1.44269504f;
  constexpr float kMinusLn2High = -0.693145752f, kMinusLn2Low = -1.42860677e-6f;  // the first has 16 bits
  const auto bounded = Vector::Min(Vector::Set(kHighest), Vector::Max(Vector::Set(kLowest), x));
  const auto shifted = Vector::Fma(bounded, Vector::Set(kLog2E), Vector::Set(kToInteger));
  const auto n = Vector::Sub(shifted, Vector::Set(kToInteger));
  auto r = Vector::Fma(n, Vector::Set(kMinusLn2High), bounded);
  r = Vector::Fma(n, Vector::Set(kMinusLn2Low), r);
  auto polynomial = Vector::Set(0x1.9f0b2cp-13f);
  polynomial = Vector::Fma(polynomial, r, Vector::Set(0x1.6d8d54p-10f));
  polynomial = Vector::Fma(polynomial, r, Vector::Set(0x1.11126ep-7f));
  polynomial = Vector::Fma(polynomial, r, Vector::Set(0x1.55548ep-5f));
  polynomial = Vector::Fma(polynomial, r, Vector::Set(0x1.555554p-3f));
  polynomial = Vector::Fma(polynomial, r, Vector::Set(0.5f));
  const auto tail = Vector::Fma(Vector::Mul(r, r), polynomial, r);
  const auto value = Vector::Add(tail, Vector::Set(1.0f));
  return Vector::ZeroWhereBelow(x, kLowest, Vector::TimesPowerOfTwo(value, shifted));
}

// Minus infinity, as a subtrahend, would make NaN of exp(minus infinity - minus infinity).
inline float FiniteBase(float maximum) { return maximum == kMinusInfinity ? 0.0f : maximum; }

// kLanes is that of the instruction set's tiles.
template <int kLanes, class Vector>
struct Strips {
  static constexpr int kWidth = Vector::kWidth;
  using Register = typename Vector::Register;

  static void FinishLogits(const Strip& strip, float scale, const int64_t* query_keys, const StripColumns& columns) {
    const Register factor = Vector::Set(scale), nothing = Vector::Set(kMinusInfinity);
    for (int64_t tile = 0; tile < strip.tiles; ++tile) {
      for (int i = 0; i < strip.rows; ++i) {
        float* values = strip.values + tile * strip.tile_stride + i * strip.row_stride;
        for (int j = 0; j < kLanes; j += kWidth) {
          const int64_t column = tile * kLanes + j;
          const Register scaled = Vector::Mul(Vector::Load(values + j), factor);
          const Register logits = Vector::Add(scaled, Vector::Load(columns.bias + column));
          Vector::Store(values + j, Vector::WhereEqual(columns.keys + column, query_keys[i], nothing, logits));
        }
      }
    }
  }

  static void RowSums(const Strip& strip, float* maxima, float* sums) {
    for (int i = 0; i < strip.rows; ++i) {
      const float* row = strip.values + i * strip.row_stride;
      Register largest = Vector::Set(kMinusInfinity);
      for (int64_t tile = 0; tile < strip.tiles; ++tile) {
        for (int j = 0; j < kLanes; j += kWidth) {
          largest = Vector::Max(largest, Vector::Load(row + tile * strip.tile_stride + j));
        }
      }
      maxima[i] = Vector::LargestOf(largest);
      const Register base = Vector::Set(FiniteBase(maxima[i]));
      Register sum = Vector::Set(0.0f);
      for (int64_t tile = 0; tile < strip.tiles; ++tile) {
        Register part = Vector::Set(0.0f);  // short chains of additions round less
        for (int j = 0; j < kLanes; j += kWidth) {
          const Register logits = Vector::Load(row + tile * strip.tile_stride + j);
          part = Vector::Add(part, Exp<Vector>(Vector::Sub(logits, base)));
        }
        sum = Vector::Add(sum, part);
      }
      sums[i] = Vector::SumOf(sum);
    }
  }

  static void ColumnSums(const Strip& strip, float* maxima, float* sums) {
    const Register zero = Vector::Set(0.0f), nothing = Vector::Set(kMinusInfinity);
    for (int64_t tile = 0; tile < strip.tiles; ++tile) {
      for (int j = 0; j < kLanes; j += kWidth) {
        const float* values = strip.values + tile * strip.tile_stride + j;
        const int64_t stride = strip.row_stride;
        const int64_t column = tile * kLanes + j;
        const Register before = Vector::Load(maxima + column);
        Register largest = before;
        for (int i = 0; i < strip.rows; ++i) largest = Vector::Max(largest, Vector::Load(values + i * stride));
        const Register base = Vector::ReplaceEqual(largest, nothing, zero);
        Register part = zero;
        for (int i = 0; i < strip.rows; ++i) {
          part = Vector::Add(part, Exp<Vector>(Vector::Sub(Vector::Load(values + i * stride), base)));
        }
        const Register rescale = Exp<Vector>(Vector::Sub(before, base));
        Vector::Store(maxima + column, largest);
        Vector::Store(sums + column, Vector::Fma(Vector::Load(sums + column), rescale, part));
      }
    }
  }

  static void Weights(const Strip& strip, const RowTerms& rows, const ColumnTerms& columns) {
    for (int i = 0; i < strip.rows; ++i) {
      const Register maximum = Vector::Set(rows.maximum[i]), log_sum = Vector::Set(rows.log_sum[i]);
      const Register weight = Vector::Set(rows.weight[i]);
      for (int64_t tile = 0; tile < strip.tiles; ++tile) {
        float* values = strip.values + tile * strip.tile_stride + i * strip.row_stride;
        for (int j = 0; j < kLanes; j += kWidth) {
          const Register logits = Vector::Load(values + j);
          const Register exponent = Vector::Sub(Vector::Sub(logits, maximum), log_sum);
          Register result = Vector::Mul(weight, Exp<Vector>(exponent));
          if (columns.lse != nullptr) {
            const int64_t column = tile * kLanes + j;
            const Register share = Exp<Vector>(Vector::Sub(logits, Vector::Load(columns.lse + column)));
            result = Vector::Fma(share, Vector::Load(columns.weight + column), result);
          }
          Vector::Store(values + j, result);
        }
      }
    }
  }

  static void PackLanes(const Matrix& matrix, int64_t first_row, int64_t num_rows, int64_t first_column,
                        int64_t num_columns, float* packed) {
    float buffer[kLanes];
    for (int64_t begin = 0; begin < num_columns; begin += kLanes) {
      const int64_t count = num_columns - begin < kLanes ? num_columns - begin : kLanes;
      float* chunk = packed + begin * num_rows;
      for (int64_t row = 0; row < num_rows; ++row) {
        const float* values = LoadRow(matrix, first_row + row, first_column + begin, count, buffer);
        float* to = chunk + row * kLanes;
        if (count == kLanes) {
          for (int j = 0; j < kLanes; j += kWidth) Vector::Store(to + j, Vector::Load(values + j));
        } else {
          for (int j = 0; j < kLanes; ++j) to[j] = j < count ? values[j] : 0.0f;
        }
      }
    }
  }

  static void AddTile(const float* tile, int rows, int lanes, bool replace, float* to, int64_t stride) {
    for (int i = 0; i < rows; ++i) {
      const float* from = tile + i * kLanes;
      float* row = to + i * stride;
      if (lanes == kLanes) {
        for (int j = 0; j < kLanes; j += kWidth) {
          const Register value = Vector::Load(from + j);
          Vector::Store(row + j, replace ? value : Vector::Add(Vector::Load(row + j), value));
        }
      } else {
        for (int j = 0; j < lanes; ++j) row[j] = replace ? from[j] : row[j] + from[j];
      }
    }
  }

  static double Dot(const Matrix& matrix, int64_t row, const float* values) {
    float buffer[kChunk];
    double sum = 0;
    for (int64_t begin = 0; begin < matrix.width; begin += kChunk) {
      const int64_t rest = matrix.width - begin;
      const int64_t count = rest < kChunk ? rest : kChunk;
      const float* elements = LoadRow(matrix, row, begin, count, buffer);
      for (int64_t h = 0; h < count; ++h) sum += static_cast<double>(elements[h]) * values[begin + h];
    }
    return sum;
  }

  static StripKernels Kernels(const TileKernels& tile) {
    static_assert(kLanes % kWidth == 0);
    if (tile.lanes != kLanes || tile.rows > kMostStripRows) __builtin_trap();
    return {tile, &FinishLogits, &RowSums, &ColumnSums, &Weights, &PackLanes, &AddTile, &Dot};
  }
};

}  // namespace
}  // namespace hybatch::contrastive::cpu
