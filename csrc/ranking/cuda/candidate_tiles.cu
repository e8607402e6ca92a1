#include "candidate_tiles.cuh"

namespace hybatch::ranking::cuda {
namespace {

constexpr int kThreads = 256;
constexpr unsigned kFullWarp = 0xffffffffu;

// Every lane of a warp takes part in every round; lanes past the end have bin -1.
struct BinPeers {
  unsigned mask;
  int leader;
  int rank;
};

__device__ BinPeers PeersOf(int32_t bin) {
  const unsigned mask = __match_any_sync(kFullWarp, bin);
  const unsigned lane = threadIdx.x % 32;
  return {mask, __ffs(static_cast<int>(mask)) - 1, __popc(mask & ((1u << lane) - 1))};
}

__device__ int32_t BinAt(const int32_t* groups, int64_t row, int64_t num_rows, int64_t num_groups) {
  return row < num_rows ? BinOf(groups[row], num_groups) : -1;
}

__global__ void CountBins(const int32_t* groups, int64_t num_rows, int64_t num_groups, int32_t* sizes) {
  const int64_t stride = static_cast<int64_t>(gridDim.x) * kThreads;
  for (int64_t start = static_cast<int64_t>(blockIdx.x) * kThreads; start < num_rows; start += stride) {
    const int32_t bin = BinAt(groups, start + threadIdx.x, num_rows, num_groups);
    const BinPeers peers = PeersOf(bin);
    if (bin >= 0 && peers.rank == 0) atomicAdd(&sizes[bin], __popc(peers.mask));
  }
}

__device__ int32_t InclusiveSum(int32_t value) {
  for (int distance = 1; distance < 32; distance *= 2) {
    const int32_t before = __shfl_up_sync(kFullWarp, value, distance);
    if (static_cast<int>(threadIdx.x) >= distance) value += before;
  }
  return value;
}

// One warp: bins are few.
__global__ void PlaceBins(CandidateTiles tiles) {
  int32_t places = 0, tile_count = 0;
  for (int32_t start = 0; start < tiles.num_bins; start += 32) {
    const int32_t bin = start + static_cast<int32_t>(threadIdx.x);
    const int32_t size = bin < tiles.num_bins ? tiles.bin_cursor[bin] : 0;
    const int32_t needed = (size + tiles.tile_size - 1) / tiles.tile_size;
    const int32_t size_sum = InclusiveSum(size), needed_sum = InclusiveSum(needed);
    if (bin < tiles.num_bins) {
      tiles.bin_first[bin] = tiles.bin_cursor[bin] = places + size_sum - size;
      tiles.bin_tile[bin] = tile_count + needed_sum - needed;
    }
    places += __shfl_sync(kFullWarp, size_sum, 31);
    tile_count += __shfl_sync(kFullWarp, needed_sum, 31);
  }
  if (threadIdx.x == 0) {
    tiles.bin_first[tiles.num_bins] = places;
    tiles.bin_tile[tiles.num_bins] = tile_count;
  }
}

// The order within a bin differs from run to run; counts do not depend on it.
__global__ void FillBins(const int32_t* groups, int64_t num_groups, CandidateTiles tiles) {
  const int64_t stride = static_cast<int64_t>(gridDim.x) * kThreads;
  for (int64_t start = static_cast<int64_t>(blockIdx.x) * kThreads; start < tiles.num_candidates; start += stride) {
    const int64_t row = start + threadIdx.x;
    const int32_t bin = BinAt(groups, row, tiles.num_candidates, num_groups);
    const BinPeers peers = PeersOf(bin);
    int32_t place = 0;
    if (bin >= 0 && peers.rank == 0) place = atomicAdd(&tiles.bin_cursor[bin], __popc(peers.mask));
    place = __shfl_sync(kFullWarp, place, peers.leader) + peers.rank;
    if (bin >= 0) tiles.order[place] = static_cast<int32_t>(row);
  }
}

}  // namespace

CandidateTiles CarveCandidateTiles(const CountAboveTask& task, int tile_size, Carver& carver) {
  CandidateTiles tiles = {};
  tiles.num_candidates = static_cast<int32_t>(task.candidates.rows);
  tiles.tile_size = tile_size;
  if (!TilesByGroup(task, tile_size)) return tiles;
  tiles.num_bins = static_cast<int32_t>(task.num_groups + 1);
  tiles.order = carver.Take<int32_t>(tiles.num_candidates);
  tiles.bin_first = carver.Take<int32_t>(tiles.num_bins + 1);
  tiles.bin_tile = carver.Take<int32_t>(tiles.num_bins + 1);
  tiles.bin_cursor = carver.Take<int32_t>(tiles.num_bins);
  return tiles;
}

void ArrangeCandidates(const CountAboveTask& task, const CandidateTiles& tiles, cudaStream_t stream) {
  if (tiles.num_bins == 0) return;
  Check(cudaMemsetAsync(tiles.bin_cursor, 0, tiles.num_bins * sizeof(int32_t), stream), "clearing group sizes");
  const unsigned blocks = BlocksFor(tiles.num_candidates, kThreads, 1024);
  CountBins<<<blocks, kThreads, 0, stream>>>(task.groups, tiles.num_candidates, task.num_groups, tiles.bin_cursor);
  CheckLaunch("launching CountBins");
  PlaceBins<<<1, 32, 0, stream>>>(tiles);
  CheckLaunch("launching PlaceBins");
  FillBins<<<blocks, kThreads, 0, stream>>>(task.groups, task.num_groups, tiles);
  CheckLaunch("launching FillBins");
}

}  // namespace hybatch::ranking::cuda
