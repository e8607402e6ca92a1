// A thread block under way: its threads, its shared memory, and what its threads wait for. One block runs at a time.

#pragma once

#include <cstdint>
#include <functional>
#include <map>
#include <memory>
#include <string>
#include <vector>

#include "device_model/language.h"
#include "fibre.h"

namespace device_model {

struct Options {
  uint64_t seed = 1;
  int multiprocessors = 3;
  int capability = 90;
  // How the tensor cores add: `group` products and the accumulator at a time, each cut off below 2^-bits of the largest
  // of them, towards zero or downwards. A group of 0: all at once in double precision, rounded to nearest.
  int group = 0;
  int bits = 0;
  bool downwards = false;
};
extern Options options;

class Random {
 public:
  explicit Random(uint64_t seed) : state_(seed * 0x9e3779b97f4a7c15u + 1) {}
  uint64_t Next() {
    state_ ^= state_ >> 12;
    state_ ^= state_ << 25;
    state_ ^= state_ >> 27;
    return (state_ * 0x2545f4914f6cdd1du) >> 16;
  }
  size_t Below(size_t bound) { return Next() % bound; }
  bool OneIn(size_t count) { return Below(count) == 0; }

 private:
  uint64_t state_;
};

// Ends the kernel: what it did is an error on any device, or would hang.
[[noreturn]] void Fail(const std::string& what);

struct PendingFetch {  // of cp.async
  unsigned char* to;
  const void* from;
  int bytes;
};

struct Thread {
  ThreadPlace place;
  int index;  // in the block
  const char* waits_for;
  std::vector<PendingFetch> fetches;
  Fibre fibre;

  int warp() const { return index / 32; }
  int lane() const { return index % 32; }
};

using Waiting = std::vector<Thread*>;

struct WarpCollective {
  Collective collective;
  uint32_t arrived = 0;
  uint64_t given[32];
  uint64_t results[32];
  Waiting waiting;
  int registers = 0;  // that its threads have asked for
  char synced[2];     // addresses for the race detector, of even and odd turns
  unsigned turn = 0;
};

struct NamedBarrier {
  int arrived = 0;
  int expected = 0;
  bool any = false;
  bool result[2] = {};
  unsigned turn = 0;
  Waiting waiting;
  char synced[2];
};

struct Mbarrier {
  int expected;
  int pending;
  int64_t bytes;  // still to come in this phase
  uint32_t parity;
  Waiting waiting;
};

struct TensorMap {
  const unsigned char* data;
  uint64_t columns, rows;
  uint64_t row_bytes;
  uint32_t box_columns, box_rows;
  uint32_t element_bytes;
  uint32_t magic;
};

struct BulkCopy {
  uint32_t to;
  TensorMap map;
  uint32_t barrier;
  int column, row;
};

enum class ProductType { kBFloat16, kFloat16, kTf32 };

struct Product {  // the share of one warp, 16 rows
  float* accumulators[32];
  uint64_t left, right;
  bool accumulate;
  ProductType type;
  bool left_turned, right_turned;
  int warp;
};

struct WarpProducts {
  std::vector<Product> open;                  // not committed
  std::vector<std::vector<Product>> groups;   // committed and not waited for
  bool fenced = false;
  size_t issued = 0;
};

// What a device may do early or late; drawn for every block.
struct Manners {
  enum class Copies { kAtOnce, kAnyTime, kWhenAllWait } copies;
  bool products_at_once;  // else only when waited for
  bool fetches_at_once;   // cp.async, likewise
  uint64_t favourites;    // warps that run whenever they can, by their last six bits; the others when these wait
};

class Block {
 public:
  Block(const ThreadPlace& place, size_t shared_bytes, Random& random);
  ~Block();

  void Run(const std::function<void()>& kernel);

  Thread& running() { return *running_; }
  int num_threads() const { return static_cast<int>(threads_.size()); }
  WarpCollective& warp() { return warps_[static_cast<size_t>(running_->warp())]; }
  std::vector<WarpCollective>& warps() { return warps_; }
  NamedBarrier& barrier(int id) { return barriers_[id]; }
  Mbarrier& mbarrier(uint32_t address);
  void AddMbarrier(uint32_t address, int arrivals);
  WarpProducts& products() { return products_[static_cast<size_t>(running_->warp())]; }
  // The first warp of a warpgroup to issue its nth product says what the others must issue.
  void CheckSameProduct(const Product& product, size_t number);

  // The running thread goes on after Wake has been called with the list that it was put into.
  void Wait(Waiting& waiting, const char* for_what);
  void Wake(Waiting& waiting);

  unsigned char* shared() { return shared_; }
  uint32_t AddressOf(const void* pointer) const;
  unsigned char* At(uint32_t address, size_t bytes);         // shared memory, as threads and copies see it
  const unsigned char* ProxyAt(uint32_t address, size_t bytes);  // as the tensor cores see it
  void WriteBoth(uint32_t address, const void* from, size_t bytes);
  void FenceForProxy();  // of the running thread
  void* Static(const void* key, size_t bytes);

  void Enqueue(const BulkCopy& copy);
  const Manners& manners() const { return manners_; }

  void Stop(const std::string& failure);  // first one counts

 private:
  static void RunThread(void* thread);
  Thread* NextThread();
  void RunSomeCopy();
  void RunCopy(const BulkCopy& copy);
  void CheckNothingLeft() const;
  std::string Deadlock() const;

  Random& random_;
  Manners manners_;
  const std::function<void()>* kernel_ = nullptr;
  std::vector<Thread*> threads_;
  std::vector<Thread*> ready_[2];  // the favourites', the others'
  Thread* running_ = nullptr;
  std::string failure_;

  std::vector<WarpCollective> warps_;
  std::map<int, NamedBarrier> barriers_;
  std::map<uint32_t, Mbarrier> mbarriers_;
  bool mbarriers_fenced_ = true;
  std::vector<WarpProducts> products_;
  std::vector<std::vector<std::pair<uint64_t, uint64_t>>> issued_;  // by each warpgroup
  std::vector<BulkCopy> copies_;

  unsigned char* page_;  // begins where the swizzle's pattern does
  unsigned char* shared_;
  size_t shared_bytes_;
  std::vector<unsigned char> proxy_;  // shared memory as the tensor cores see it
  std::vector<bool> has_fenced_;      // threads, since it was made equal to the threads' view
  int num_fenced_ = 0;
  std::map<const void*, void*> statics_;

  friend void ptx::FenceMbarrierInit();
};

extern Block* block;  // the one that runs

void RunProduct(const Product& product);

}  // namespace device_model
