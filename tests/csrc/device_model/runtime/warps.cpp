// What the lanes of a warp do together, and barriers of more threads than a warp's.

#include <string>

#include "block.h"
#include "watch.h"

namespace device_model {
namespace {

const char* NameOf(Collective collective) {
  static constexpr const char* kNames[] = {
      "__syncwarp", "__shfl_sync", "__shfl_up_sync", "__shfl_down_sync", "__shfl_xor_sync", "__match_any_sync",
      "__any_sync", "__all_sync", "__reduce_add_sync", "__reduce_max_sync",
      "wgmma.fence", "wgmma.mma_async", "wgmma.commit_group", "wgmma.wait_group", "setmaxnreg"};
  return kNames[static_cast<int>(collective)];
}

bool Meet(int id, int count, bool value) {
  const Unwatched unwatched;
  if (id < 0 || id > 15) Fail("there is no barrier " + std::to_string(id));
  if (count <= 0 || count % 32 != 0 || count > block->num_threads()) {
    Fail("barrier " + std::to_string(id) + " for " + std::to_string(count) + " threads");
  }
  NamedBarrier& barrier = block->barrier(id);
  if (barrier.arrived == 0) {
    barrier.expected = count;
    barrier.any = false;
  }
  if (barrier.expected != count) Fail("threads expect different numbers at barrier " + std::to_string(id));
  const unsigned turn = barrier.turn % 2;
  Release(&barrier.synced[turn]);
  barrier.any |= value;
  if (++barrier.arrived == count) {
    barrier.arrived = 0;
    barrier.result[turn] = barrier.any;
    ++barrier.turn;
    block->Wake(barrier.waiting);
  } else {
    static constexpr const char* kNames[] = {"barrier 0", "barrier 1", "barrier 2", "barrier 3 or more"};
    block->Wait(barrier.waiting, kNames[id < 3 ? id : 3]);
  }
  Acquire(&barrier.synced[turn]);
  return barrier.result[turn];
}

}  // namespace

const uint64_t* Exchange(Collective collective, unsigned mask, uint64_t value) {
  const Unwatched unwatched;
  WarpCollective& warp = block->warp();
  const auto lane = static_cast<unsigned>(block->running().lane());
  if (mask != 0xffffffffu) Fail(std::string(NameOf(collective)) + " of a part of a warp");
  if (warp.arrived == 0) warp.collective = collective;
  if (warp.collective != collective) {
    Fail(std::string("lanes of a warp are in ") + NameOf(warp.collective) + " and in " + NameOf(collective));
  }
  warp.given[lane] = value;
  warp.arrived |= 1u << lane;
  const char* synced = &warp.synced[warp.turn % 2];
  if (collective == Collective::kSync) Release(synced);
  if (warp.arrived == 0xffffffffu) {
    std::copy(warp.given, warp.given + 32, warp.results);
    warp.arrived = 0;
    ++warp.turn;
    block->Wake(warp.waiting);
  } else {
    block->Wait(warp.waiting, NameOf(collective));
  }
  if (collective == Collective::kSync) Acquire(synced);
  return warp.results;
}

namespace ptx {

void BarSync(int barrier, int threads) { Meet(barrier, threads, false); }

void BarRedOr(int& any, int value, int barrier, int threads) { any = Meet(barrier, threads, value != 0); }

// The registers of a multiprocessor, all of them one block's.
void SetMaxRegisters(int registers) {
  constexpr int kRegisters = 65536;
  Exchange(Collective::kSetMaxRegisters, 0xffffffffu, static_cast<uint64_t>(registers));
  const Unwatched unwatched;
  if (registers % 8 != 0 || registers < 24 || registers > 256) Fail("setmaxnreg of " + std::to_string(registers));
  block->warp().registers = registers;
  int total = 0;
  for (const WarpCollective& warp : block->warps()) total += 32 * warp.registers;
  if (total > kRegisters) Fail("setmaxnreg: more registers than there are");
}

}  // namespace ptx
}  // namespace device_model
