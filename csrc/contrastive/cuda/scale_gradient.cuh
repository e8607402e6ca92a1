// The gradient of the scale, from that of the queries: the sum of their products with the queries, over the scale.

#pragma once

#include <cuda_runtime_api.h>

#include "../contract.h"

namespace hybatch::contrastive::cuda {

// `terms` has room for one value per query. There are queries.
void ScaleGradient(const LossInputs& inputs, const Gradients& gradients, double* terms, cudaStream_t stream);

}  // namespace hybatch::contrastive::cuda
