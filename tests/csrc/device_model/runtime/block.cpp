#include "block.h"

#include <algorithm>
#include <stdexcept>
#include <utility>

#include "watch.h"

namespace device_model {

const ThreadPlace* place = nullptr;
Options options;
Block* block = nullptr;

namespace {

constexpr uint32_t kWindow = 0x1000;  // shared address of the page
constexpr int kMostThreads = 1024;
constexpr size_t kMostShared = 227 << 10;
constexpr size_t kSharedUnasked = 48 << 10;

cudaError_t last_error = cudaSuccess;
std::map<const void*, size_t> allowed_shared;
uint64_t launches = 0;
const char* kernel_name = "";
char launched, finished;  // addresses for the race detector

// Threads keep their stacks from block to block.
Thread* ThreadNumber(int index) {
  static std::vector<std::unique_ptr<Thread>> threads;
  while (static_cast<int>(threads.size()) <= index) threads.push_back(std::make_unique<Thread>());
  return threads[static_cast<size_t>(index)].get();
}

Manners DrawManners(Random& random) {
  Manners manners;
  manners.copies = static_cast<Manners::Copies>(random.Below(3));
  manners.products_at_once = random.OneIn(3);
  manners.fetches_at_once = random.OneIn(3);
  manners.favourites = random.OneIn(3) ? ~uint64_t{0} : random.Next();
  return manners;
}

void* NewPage(size_t bytes) {
  void* page = nullptr;
  if (posix_memalign(&page, 1024, bytes) != 0) throw std::bad_alloc();
  return page;
}

#ifdef DEVICE_MODEL_THREAD_SANITIZER
// No two blocks of a launch have the same memory: between them there is no order that would make its reuse none of
// their affair.
struct Pages {
  std::vector<void*> all;
  size_t used = 0;
};
std::map<size_t, Pages> pages_by_size;
constexpr bool kFreedAtTheEnd = true;  // of the launch

void* SharedPage(size_t bytes) {
  Pages& pages = pages_by_size[bytes];
  if (pages.used == pages.all.size()) pages.all.push_back(NewPage(bytes));
  return pages.all[pages.used++];
}
void FreePage(void*) {}
void ReusePages() {
  for (auto& [bytes, pages] : pages_by_size) pages.used = 0;
}
#else
constexpr bool kFreedAtTheEnd = false;
void* SharedPage(size_t bytes) { return NewPage(bytes); }
void FreePage(void* page) { std::free(page); }
void ReusePages() {}
#endif

std::string Name(const ThreadPlace& place) {
  return std::string(kernel_name) + ", block " + std::to_string(place.block.x) + ", " + std::to_string(place.block.y) +
         ", thread " + std::to_string(place.thread.x);
}

}  // namespace

void Fail(const std::string& what) {
  if (place == nullptr) throw std::runtime_error(what + " (" + kernel_name + ")");  // no thread's doing
  block->Stop(what + " (" + Name(*place) + ")");
  while (true) block->running().fibre.Suspend();
}

// Shared memory starts as NaNs, off the swizzle's boundaries, and ends where its allocation does.
Block::Block(const ThreadPlace& at, size_t shared_bytes, Random& random)
    : random_(random), manners_(DrawManners(random)), shared_bytes_(shared_bytes), proxy_(shared_bytes, 0xff) {
  const Unwatched unwatched;
  block = this;
  const int num_threads = static_cast<int>(at.block_size.x);
  const size_t lead = shared_bytes == 0 ? 0 : 16 * (1 + 2 * random.Below(8));
  page_ = static_cast<unsigned char*>(SharedPage(std::max<size_t>(lead + shared_bytes, 1)));
  shared_ = page_ + lead;
  std::memset(shared_, 0xff, shared_bytes);
  Poison(page_, lead);
  for (int index = 0; index < num_threads; ++index) {
    Thread* thread = ThreadNumber(index);
    thread->place = at;
    thread->place.thread = {static_cast<unsigned>(index), 0, 0};
    thread->index = index;
    thread->waits_for = "its turn";
    thread->fetches.clear();
    threads_.push_back(thread);
  }
  warps_.resize(static_cast<size_t>((num_threads + 31) / 32));
  products_.resize(warps_.size());
  issued_.resize((warps_.size() + 3) / 4);
  has_fenced_.resize(threads_.size());
}

Block::~Block() {
  block = nullptr;
  Unpoison(page_, static_cast<size_t>(shared_ - page_));
  FreePage(page_);
  for (const auto& [key, memory] : statics_) FreePage(memory);
}

void Block::RunThread(void* thread) {
  Acquire(&launched);
  (*block->kernel_)();
  Release(&finished);
  static_cast<Thread*>(thread)->waits_for = "nothing: it has ended";
}

void Block::Run(const std::function<void()>& kernel) {
  const Unwatched unwatched;
  kernel_ = &kernel;
  Release(&launched);
  for (Thread* thread : threads_) {
    thread->fibre.Start(&RunThread, thread);
    ready_[manners_.favourites >> (thread->warp() % 64) & 1 ? 0 : 1].push_back(thread);
  }
  size_t left = threads_.size();
  while (left > 0 && failure_.empty()) {
    const bool all_wait = ready_[0].empty() && ready_[1].empty();
    if (!copies_.empty() && (all_wait || (manners_.copies == Manners::Copies::kAnyTime && random_.OneIn(64)))) {
      RunSomeCopy();
      continue;
    }
    if (all_wait) {
      failure_ = Deadlock();
      break;
    }
    running_ = NextThread();
    place = &running_->place;
    running_->fibre.Resume();
    place = nullptr;
    if (running_->fibre.ended()) --left;
  }
  if (failure_.empty()) CheckNothingLeft();
  if (!failure_.empty()) throw std::runtime_error(failure_);
}

Thread* Block::NextThread() {
  auto& ready = ready_[0].empty() || (!ready_[1].empty() && random_.OneIn(64)) ? ready_[1] : ready_[0];
  std::swap(ready[random_.Below(ready.size())], ready.back());
  Thread* thread = ready.back();
  ready.pop_back();
  return thread;
}

void Block::Wait(Waiting& waiting, const char* for_what) {
  Thread* thread = running_;
  waiting.push_back(thread);
  thread->waits_for = for_what;
  thread->fibre.Suspend();
}

void Block::Wake(Waiting& waiting) {
  for (Thread* thread : waiting) ready_[manners_.favourites >> (thread->warp() % 64) & 1 ? 0 : 1].push_back(thread);
  waiting.clear();
}

void Block::Stop(const std::string& failure) {
  if (failure_.empty()) failure_ = failure;
}

std::string Block::Deadlock() const {
  std::map<std::string, int> places;
  for (const Thread* thread : threads_) ++places[thread->waits_for];
  std::string text = std::string("deadlock in ") + kernel_name + ":";
  for (const auto& [waits_for, count] : places) {
    text += " " + std::to_string(count) + " threads wait for " + waits_for + ";";
  }
  return text;
}

void Block::CheckNothingLeft() const {
  std::string left;
  if (!copies_.empty()) left = "bulk copies under way";
  for (const auto& [address, mbarrier] : mbarriers_) {
    if (mbarrier.bytes != 0) left = "an mbarrier that bytes are still expected of";
  }
  for (const WarpProducts& warp : products_) {
    if (!warp.open.empty() || !warp.groups.empty()) left = "products that nobody waited for";
  }
  for (const Thread* thread : threads_) {
    if (!thread->fetches.empty()) left = "copies by cp.async that nobody waited for";
  }
  for (const auto& [id, barrier] : barriers_) {
    if (barrier.arrived != 0) left = "threads at barrier " + std::to_string(id);
  }
  if (!left.empty()) throw std::runtime_error(std::string(kernel_name) + " ends with " + left);
}

uint32_t Block::AddressOf(const void* pointer) const {
  return static_cast<uint32_t>(static_cast<const unsigned char*>(pointer) - page_) + kWindow;
}

unsigned char* Block::At(uint32_t address, size_t bytes) {
  const int64_t place = int64_t{address} - kWindow - (shared_ - page_);
  if (place < 0 || place + bytes > shared_bytes_) {
    Fail("shared address " + std::to_string(address) + " is not the block's");
  }
  return shared_ + place;
}

const unsigned char* Block::ProxyAt(uint32_t address, size_t bytes) {
  return proxy_.data() + (At(address, bytes) - shared_);
}

void Block::WriteBoth(uint32_t address, const void* from, size_t bytes) {
  unsigned char* to = At(address, bytes);
  std::memcpy(to, from, bytes);
  std::memcpy(proxy_.data() + (to - shared_), from, bytes);
}

void Block::FenceForProxy() {
  const auto index = static_cast<size_t>(running_->index);
  if (!has_fenced_[index]) ++num_fenced_;
  has_fenced_[index] = true;
  if (num_fenced_ < num_threads()) return;
  std::memcpy(proxy_.data(), shared_, shared_bytes_);
  has_fenced_.assign(threads_.size(), false);
  num_fenced_ = 0;
}

void* Block::Static(const void* key, size_t bytes) {
  void*& memory = statics_[key];
  if (memory == nullptr) {
    memory = SharedPage(bytes);
    std::memset(memory, 0xff, bytes);
  }
  return memory;
}

uint32_t SharedAddress(const void* pointer) { return block->AddressOf(pointer); }
unsigned char* DynamicShared() { return block->shared(); }
void* StaticSharedBytes(const void* key, size_t bytes) {
  const Unwatched unwatched;
  return block->Static(key, bytes);
}

cudaError_t AllowShared(const void* kernel, int bytes) {
  if (bytes < 0 || static_cast<size_t>(bytes) > kMostShared) return cudaErrorInvalidValue;
  allowed_shared[kernel] = static_cast<size_t>(bytes);
  return cudaSuccess;
}

void Launch(const void* kernel, const char* name, dim3 grid, dim3 block_size, size_t shared_bytes, const void*,
            const std::function<void()>& body) {
  const auto allowed = allowed_shared.find(kernel);
  const size_t most_shared = std::max(kSharedUnasked, allowed != allowed_shared.end() ? allowed->second : 0);
  const bool grid_fits = grid.x > 0 && grid.x <= 0x7fffffffu && grid.y > 0 && grid.y <= 65535 && grid.z == 1;
  const bool block_fits = block_size.x > 0 && block_size.x <= kMostThreads && block_size.y == 1 && block_size.z == 1;
  if (!grid_fits || !block_fits || shared_bytes > most_shared) {
    last_error = shared_bytes > most_shared ? cudaErrorInvalidValue : cudaErrorInvalidConfiguration;
    return;
  }
  kernel_name = name;
  ReusePages();
  Random random(options.seed * 1000003 + ++launches);
  std::vector<std::unique_ptr<Block>> done;
  for (unsigned y = 0; y < grid.y; ++y) {
    for (unsigned x = 0; x < grid.x; ++x) {
      auto running = std::make_unique<Block>(ThreadPlace{{}, {x, y, 0}, block_size, grid}, shared_bytes, random);
      running->Run(body);
      if (kFreedAtTheEnd) done.push_back(std::move(running));
    }
  }
  Acquire(&finished);
}

}  // namespace device_model

cudaError_t cudaGetLastError() { return std::exchange(device_model::last_error, cudaSuccess); }
