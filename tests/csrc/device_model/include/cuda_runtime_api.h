#pragma once

#include "device_model/language.h"
