// Gradients, a slab of queries at a time: its weights against all candidates are computed anew and held, then both
// gradients are products with them. Slabs follow one another on the stream, so that sums have one order.

#include <algorithm>

#include "common/cuda/runtime.h"
#include "generic.cuh"
#include "logits.cuh"
#include "product.cuh"
#include "scale_gradient.cuh"

namespace hybatch::contrastive::cuda {
namespace {

// Weights of queries first .. first + count - 1, row by row.
struct Slab {
  float* weights;
  int64_t first;
  int64_t count;
  int64_t num_candidates;
};

struct WeightsOfQueries {  // line: query of the slab, term: candidate
  static constexpr bool kTermsAreNeighbours = true;
  const float* weights;
  int64_t num_candidates;
  __device__ float At(int64_t line, int64_t k) const { return weights[line * num_candidates + k]; }
};

struct WeightsOfCandidates {  // the other way round
  static constexpr bool kTermsAreNeighbours = false;
  const float* weights;
  int64_t num_candidates;
  __device__ float At(int64_t line, int64_t k) const { return weights[k * num_candidates + line]; }
};

__device__ float Share(float logit, float lse, float weight) {
  return lse == -INFINITY ? 0.0f : weight * expf(logit - lse);
}

template <ElementKind kKind>
__global__ void __launch_bounds__(kThreads) ComputeWeights(BackwardTask task, Slab slab) {
  __shared__ SharedTiles shared;
  using Stored = typename Element<kKind>::Stored;
  const LossInputs& inputs = task.inputs;
  const int64_t width = inputs.queries.width;
  const RowsOf<kKind> queries = {static_cast<const Stored*>(inputs.queries.data) + slab.first * width, width};
  const RowsOf<kKind> candidates = {static_cast<const Stored*>(inputs.candidates.data), width};
  const int64_t first_row = static_cast<int64_t>(blockIdx.y) * kTile;
  const int64_t first_column = static_cast<int64_t>(blockIdx.x) * kTile;
  Results results;
  MultiplyTile(queries, first_row, slab.count, candidates, first_column, slab.num_candidates, width, shared, results);
  const float scale = *inputs.scale;
#pragma unroll
  for (int i = 0; i < kPerThread; ++i) {
    const int64_t row = first_row + RowInTile(i), q = slab.first + row;
    if (row >= slab.count) continue;
    const int64_t positive = inputs.positive_index[q];
#pragma unroll
    for (int j = 0; j < kPerThread; ++j) {
      const int64_t d = first_column + ColumnInTile(j);
      if (d >= slab.num_candidates) continue;
      float weight = 0.0f;
      if (TakesPart(inputs, q, d)) {
        const float logit = results[i][j] * scale;
        weight = Share(logit, task.row_lse[q], task.grad_row_lse[q]);
        if (task.column_lse != nullptr) weight += Share(logit, task.column_lse[d], task.grad_column_lse[d]);
        if (d == positive) weight += task.grad_positive[q];
      }
      slab.weights[row * slab.num_candidates + d] = weight * scale;
    }
  }
}

// to[m, n] = or += the sum over k of left(m, k) right(n, k).
template <class Left, class Right>
__global__ void __launch_bounds__(kThreads)
    AddProduct(Left left, int64_t num_rows, Right right, int64_t num_columns, int64_t num_terms, bool replace,
               float* to) {
  __shared__ SharedTiles shared;
  const int64_t first_row = static_cast<int64_t>(blockIdx.x) * kTile;
  const int64_t first_column = static_cast<int64_t>(blockIdx.y) * kTile;
  Results results;
  MultiplyTile(left, first_row, num_rows, right, first_column, num_columns, num_terms, shared, results);
#pragma unroll
  for (int i = 0; i < kPerThread; ++i) {
#pragma unroll
    for (int j = 0; j < kPerThread; ++j) {
      const int64_t row = first_row + RowInTile(i), column = first_column + ColumnInTile(j);
      if (row >= num_rows || column >= num_columns) continue;
      float& place = to[row * num_columns + column];
      place = replace ? results[i][j] : place + results[i][j];
    }
  }
}

dim3 Grid(int64_t lines, int64_t others) {
  return {static_cast<unsigned>(Tiles(lines)), static_cast<unsigned>(Tiles(others))};
}

template <ElementKind kKind>
void AddSlab(const BackwardTask& task, const Slab& slab, cudaStream_t stream) {
  using Stored = typename Element<kKind>::Stored;
  const LossInputs& inputs = task.inputs;
  const int64_t width = inputs.queries.width, candidates = slab.num_candidates;
  ComputeWeights<kKind><<<Grid(candidates, slab.count), kThreads, 0, stream>>>(task, slab);
  CheckLaunch("launching ComputeWeights");
  const auto* query_rows = static_cast<const Stored*>(inputs.queries.data) + slab.first * width;
  AddProduct<<<Grid(slab.count, width), kThreads, 0, stream>>>(
      WeightsOfQueries{slab.weights, candidates}, slab.count,
      ColumnsOf<kKind>{static_cast<const Stored*>(inputs.candidates.data), width}, width, candidates, true,
      task.gradients.queries + slab.first * width);
  CheckLaunch("launching AddProduct for queries");
  AddProduct<<<Grid(candidates, width), kThreads, 0, stream>>>(
      WeightsOfCandidates{slab.weights, candidates}, candidates, ColumnsOf<kKind>{query_rows, width}, width, slab.count,
      slab.first == 0, task.gradients.candidates);
  CheckLaunch("launching AddProduct for candidates");
}

struct Workspace {
  float* weights;
  double* scale_terms;
};

Workspace Carve(const LossInputs& inputs, Carver& carver) {
  const int64_t candidates = inputs.candidates.rows;
  Workspace workspace;
  workspace.weights = carver.Take<float>(SlabRows(inputs.queries.rows, candidates) * candidates);
  workspace.scale_terms = carver.Take<double>(inputs.queries.rows);
  return workspace;
}

}  // namespace

size_t GenericBackwardWorkspace(const LossInputs& inputs) {
  Carver carver(nullptr);
  Carve(inputs, carver);
  return carver.used();
}

void GenericBackward(const BackwardTask& task, void* memory, cudaStream_t stream) {
  const LossInputs& inputs = task.inputs;
  const int64_t queries = inputs.queries.rows, candidates = inputs.candidates.rows;
  Carver carver(memory);
  const Workspace workspace = Carve(inputs, carver);
  const ElementKind kind = StoredKind(inputs.queries.type);
  WithKind(kind, [&]<ElementKind kKind>() {
    const int64_t rows = SlabRows(queries, candidates);
    for (int64_t first = 0; first < queries; first += rows) {
      const int64_t count = std::min(rows, queries - first);
      AddSlab<kKind>(task, {workspace.weights, first, count, candidates}, stream);
    }
  });
  ScaleGradient(inputs, task.gradients, workspace.scale_terms, stream);
}

}  // namespace hybatch::contrastive::cuda
